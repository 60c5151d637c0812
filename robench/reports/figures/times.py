"""Seconds per epoch: of each method a bar, or lines over a setting of the recipe."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

import pandas as pd
from matplotlib.axes import Axes

from robench.ledger.measurements import Measurement
from robench.reports.captions import nothing_yet, written
from robench.reports.evaluations import settings_of
from robench.reports.figure_data import Drawing, FigureData
from robench.reports.figures.choice import lacking, lines, places
from robench.reports.figures.palette import COLORS, label_ends, line, panels

COLUMNS = ("dataset", "model", "setting", "seconds", "low", "high", "passes", "source")

MEANING = "Error bars are the quartiles of a step's time; passes are those of an image forward through the model"


def draw(sources: FigureData) -> Drawing:
    """Settings: `models` by their labels; with `over` they are lines over that setting of the recipe, which the axis
    calls `axis`; `datasets` the paper's, a panel each; `baseline` the model that printed ratios refer to.

    From measurements of kind `epoch_time`, on each data set those on the machine of the newest. Bars are the quartiles
    of a step's time.
    """
    settings = sources.settings
    models, over = settings["models"], settings.get("over")
    found = places(sources.measurements("epoch_time"), models.values(), settings["datasets"])
    shown = {name: lines(_on_one_machine(some), models, over) for name, some in found.items()}
    measured = [row for name, by_label in shown.items() for row in _measured(name, by_label, over)]
    frame = pd.DataFrame([*measured, *_printed(sources, measured)], columns=list(COLUMNS))
    if not measured:
        return nothing_yet(sources)

    canvas, (row,) = panels(1, len(shown), sources.figure.title, height=2.8 if over else 1.0 + 0.36 * len(models))
    for axes, (name, by_label) in zip(row, shown.items(), strict=True):
        axes.set_title(f"{name}, {_first(by_label).about['arch']}, {_machine(_first(by_label))}", fontsize=9)
        here = frame[frame["dataset"] == name]
        if over:
            _lines(axes, here, settings["axis"])
        else:
            _bars(axes, here, list(models))
    everywhere = {label: list(chain(*(by_label[label] for by_label in shown.values()))) for label in models}
    said = [_conditions(name, by_label) for name, by_label in shown.items()]
    return Drawing(canvas, frame, written(sources, *said, MEANING, *lacking(sources, everywhere)))


def _bars(axes: Axes, frame: pd.DataFrame, labels: Sequence[str]) -> None:
    """With its seconds and passes at the end of each, and a diamond where the paper prints a ratio."""
    heights = frame["model"].map([label for label in labels if label in set(frame["model"])].index)
    measured, printed = frame["source"] == "measured", frame["source"] != "measured"
    seconds, low, high = (frame.loc[measured, name] for name in ("seconds", "low", "high"))
    axes.barh(heights[measured], seconds, xerr=[seconds - low, high - seconds], color=COLORS[0], height=0.62)
    for height, end, value, passes in zip(heights[measured], high, seconds, frame.loc[measured, "passes"], strict=True):
        text = f"{value:.3g} s, {passes:.3g} pass{'es' if passes > 1 else ''}"
        axes.annotate(text, (end, height), (5, 0), textcoords="offset points", va="center", fontsize=8)
    axes.set_yticks(list(dict.fromkeys(heights)), list(dict.fromkeys(frame["model"])))
    axes.set(xlabel="seconds per epoch", xlim=(0, 1.6 * max(high.max(), frame["seconds"].max())))
    axes.invert_yaxis()
    axes.grid(False, axis="y")
    if printed.any():
        x, y = frame.loc[printed, "seconds"], heights[printed]
        axes.scatter(x, y, marker="D", s=36, facecolor="white", edgecolor=COLORS[1], zorder=3)
        axes.set_xlabel(f"seconds per epoch; diamonds: {frame.loc[printed, 'source'].iloc[0]}")


def _lines(axes: Axes, frame: pd.DataFrame, axis: str) -> None:
    ends = []
    for place, (label, points) in enumerate(frame.groupby("model", sort=False)):
        ends.append((line(axes, points["setting"], points, "seconds", place), str(label), COLORS[place]))
    axes.set(xlabel=axis, ylabel="seconds per epoch", xticks=sorted(frame["setting"].unique()))
    axes.set_ylim(bottom=0)
    label_ends(axes, ends)


def _measured(name: str, shown: Mapping[str, Sequence[Measurement]], over: str | None) -> Iterator[dict[str, Any]]:
    for label, some in shown.items():
        for each in some:
            low, high = each.found["quartiles"]
            yield {
                "dataset": name,
                "model": label,
                "setting": settings_of(each.about)[over] if over else None,
                "seconds": each.found["seconds"],
                "low": low,
                "high": high,
                "passes": each.found["passes"],
                "source": "measured",
            }


def _printed(sources: FigureData, measured: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """The printed ratios, "times slower" or "faster" than the baseline, as seconds where that was measured."""
    baseline = sources.settings.get("baseline")
    for row in measured:
        if row["model"] == baseline:
            for number in sources.published:
                ratio = float(number.value) if "slower" in number.metric else 1 / float(number.value)
                source = f"the paper's ratio to {baseline}"
                shown = {"dataset": row["dataset"], "model": number.model, "setting": None, "source": source}
                yield {**shown, "seconds": ratio * row["seconds"]}


def _on_one_machine(found: Sequence[Measurement]) -> list[Measurement]:
    """Seconds on two are no comparison."""
    return [each for each in found if _machine(each) == _machine(found[0])]


def _machine(measurement: Measurement) -> str:
    threads = measurement.found["threads"]
    return f"{measurement.run['device']}, {threads} thread{'s' if threads > 1 else ''}"


def _conditions(name: str, shown: Mapping[str, Sequence[Measurement]]) -> str:
    found = _first(shown).found
    return (
        f"On {name}: {_first(shown).about['arch']}, {found['images']:,} images an epoch in batches of "
        f"{found['batch_size']}, {_machine(_first(shown))}"
    )


def _first(shown: Mapping[str, Sequence[Measurement]]) -> Measurement:
    return next(each for some in shown.values() for each in some)
