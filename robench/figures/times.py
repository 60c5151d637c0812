"""Seconds per epoch: of each method a bar, or lines over a setting of the recipe."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

import pandas as pd
from matplotlib.axes import Axes

from robench.drawing import Drawing, Sources
from robench.figures.choice import lines, listed, nothing_yet, places, sentence
from robench.figures.palette import COLORS, label_ends, line, panels
from robench.measurements import Measurement
from robench.runs import setting

COLUMNS = ("dataset", "model", "setting", "seconds", "low", "high", "passes", "source")


def draw(sources: Sources) -> Drawing:
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
        return Drawing(None, frame, nothing_yet(sources))

    canvas, (row,) = panels(1, len(shown), sources.figure.title, height=2.8 if over else 1.0 + 0.36 * len(models))
    for axes, (name, by_label) in zip(row, shown.items(), strict=True):
        axes.set_title(f"{name}, {_first(by_label).about['arch']}, {_machine(_first(by_label))}", fontsize=9)
        here = frame[frame["dataset"] == name]
        if over:
            _lines(axes, here, settings["axis"])
        else:
            _bars(axes, here)
    everywhere = {label: list(chain(*(by_label[label] for by_label in shown.values()))) for label in models}
    said = [_conditions(name, by_label) for name, by_label in shown.items()]
    said.append(f"the paper's: {listed(settings['datasets'])}")
    return Drawing(canvas, frame, sentence(sources, everywhere, *said, "bars are the quartiles of a step's time"))


def _bars(axes: Axes, frame: pd.DataFrame) -> None:
    """With its seconds and passes at the end of each, and a diamond where the paper prints a ratio."""
    measured = frame[frame["source"] == "measured"].reset_index(drop=True)
    errors = [measured["seconds"] - measured["low"], measured["high"] - measured["seconds"]]
    axes.barh(measured.index, measured["seconds"], xerr=errors, color=COLORS[0], ecolor=COLORS[-1], height=0.62)
    for place, row in measured.iterrows():
        text = f"{row['seconds']:.3g} s, {row['passes']:.3g} pass{'es' if row['passes'] > 1 else ''}"
        axes.annotate(text, (row["high"], place), (5, 0), textcoords="offset points", va="center", fontsize=8)
    axes.set_yticks(measured.index, measured["model"])
    axes.set(xlabel="seconds per epoch", xlim=(0, 1.6 * measured["high"].max()))
    axes.invert_yaxis()
    axes.grid(False, axis="y")
    printed = frame[frame["source"] != "measured"]
    if len(printed):
        heights = printed["model"].map(list(measured["model"]).index)
        axes.scatter(printed["seconds"], heights, marker="D", s=36, facecolor="white", edgecolor=COLORS[1], zorder=3)
        axes.annotate(
            f"◇ {printed['source'].iloc[0]}",
            (1, 0),
            (0, -38),
            xycoords="axes fraction",
            textcoords="offset points",
            ha="right",
            fontsize=8,
            color=COLORS[1],
        )


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
                "setting": setting(each.about, over) if over else None,
                "seconds": each.found["seconds"],
                "low": low,
                "high": high,
                "passes": each.found["passes"],
                "source": "measured",
            }


def _printed(sources: Sources, measured: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
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
        f"{name}: {_first(shown).about['arch']}, {found['images']:,} images an epoch in batches of "
        f"{found['batch_size']}, {_machine(_first(shown))}"
    )


def _first(shown: Mapping[str, Sequence[Measurement]]) -> Measurement:
    return next(each for some in shown.values() for each in some)
