"""Accuracy, and what the training logged, against a setting of the recipe."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter

from robench.ledger.schema import CLEAN
from robench.reports.captions import nothing_yet
from robench.reports.evaluations import Run
from robench.reports.figure_data import Drawing, FigureData
from robench.reports.figures.choice import accuracy, caption, lines, listed, one_place, where
from robench.reports.figures.palette import COLORS, label_ends, line, panels

COLUMNS = ("panel", "model", "setting", "of", "value", "low", "high", "n", "seed")


def draw(sources: FigureData) -> Drawing:
    """Settings: `over` is the recipe's setting and `axis` what the axis calls it; `models` are the lines by their
    labels, in groups that stand side by side, level where the model fixes that setting; `panels`, one below the other,
    are the attacks that each shows, `clean` among them; `logged` likewise a metric of the training.

    Bars are 95 % Wilson intervals; a logged metric has none.
    """
    settings = sources.settings
    groups: Mapping[str, Mapping[str, Any]] = settings["models"]
    models = {label: model for group in groups.values() for label, model in group.items()}
    attacks = {name for names in settings["panels"].values() for name in names} - {CLEAN}
    attacked = [run for run in sources.runs if attacks & run.cells.keys()]
    shown = lines(one_place(attacked, models.values(), sources.figure.dataset), models, settings["over"])
    frame = pd.DataFrame([*_accuracies(settings, shown), *_logged(sources, shown)], columns=list(COLUMNS))
    if not len(frame):
        return nothing_yet(sources)

    first = next(run for runs in shown.values() for run in runs)
    every = [*settings["panels"], *settings.get("logged", {})]
    names = [name for name in every if name in set(frame["panel"])]
    canvas, grid = panels(len(names), len(groups), f"{sources.figure.title}\n{where(first)}")
    swept = {label for label, model in models.items() if settings["over"] not in model}
    ticks = sorted(frame.loc[frame["model"].isin(swept), "setting"].unique())
    for row, (axes_row, name) in enumerate(zip(grid, names, strict=True)):
        low, high = _range(frame[frame["panel"] == name])
        for column, (axes, (group, members)) in enumerate(zip(axes_row, groups.items(), strict=True)):
            here = frame[(frame["panel"] == name) & frame["model"].isin(list(members))]
            axes.set(ylim=(low, high), xlim=(-0.3, len(ticks) - 0.7), xticks=range(len(ticks)))
            axes.set_xticklabels([f"{tick:g}" for tick in ticks])
            axes.set_title(group if row == 0 else "", fontsize=9)
            axes.set_xlabel(settings["axis"] if row == len(names) - 1 else "")
            axes.set_ylabel(name if column == 0 else "")
            if name in settings["panels"]:
                axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
            _lines(axes, here, ticks, swept)
    n = listed(sorted(frame["n"].dropna().astype(int).unique()))
    absent = [f"Not measured yet: {name}" for name in every if name not in names]
    return Drawing(canvas, frame, caption(sources, shown, f"n = {n}; bars are 95 % Wilson intervals", *absent))


def _lines(axes: Axes, frame: pd.DataFrame, ticks: Sequence[float], swept: set[str]) -> None:
    """One for each model and what is shown of it, with its name at its end."""
    by = [name for name in ("model", "of") if frame[name].nunique() > 1] or ["model"]
    groups, ends = list(frame.groupby(by, sort=False)), []
    for place, (key, points) in enumerate(groups):
        if points["model"].iloc[0] in swept:
            aside = 0.05 * (place - (len(groups) - 1) / 2)  # so that no bar hides another
            x = points["setting"].map(ticks.index) + aside
            height = line(axes, x, points, "value", place)
        else:
            height = float(points["value"].mean())
            axes.axhline(height, color=COLORS[place], linestyle="--", linewidth=1)
        ends.append((height, ", ".join(map(str, key)), COLORS[place]))
    label_ends(axes, ends)


def _range(frame: pd.DataFrame) -> tuple[float, float]:
    """A little more than all values and bars."""
    values = [value for name in ("value", "low", "high") for value in frame[name].dropna()]
    margin = 0.06 * (max(values) - min(values)) or 0.1
    return min(values) - margin, max(values) + margin


def _accuracies(settings: Mapping[str, Any], shown: Mapping[str, Sequence[Run]]) -> Iterator[dict[str, Any]]:
    for panel, names in settings["panels"].items():
        for label, runs in shown.items():
            for run in runs:
                for name in names:
                    if interval := accuracy(run, name):
                        value, low, high = interval
                        rest = {"value": value, "low": low, "high": high, "n": run.summary.n}
                        yield {**_row(panel, label, run, settings["over"]), "of": name, **rest}


def _logged(sources: FigureData, shown: Mapping[str, Sequence[Run]]) -> Iterator[dict[str, Any]]:
    logs = {each.about["model"]: each.found["kept"] for each in reversed(sources.measurements("training"))}
    for panel, metric in sources.settings.get("logged", {}).items():
        for label, runs in shown.items():
            for run in runs:
                value = logs.get(run.about["model"], {}).get(metric)
                if value is not None:
                    row = _row(panel, label, run, sources.settings["over"])
                    yield {**row, "of": metric, "value": value}


def _row(panel: str, label: str, run: Run, over: str) -> dict[str, Any]:
    return {"panel": panel, "model": label, "setting": run.setting(over), "seed": run.about["train_seed"]}
