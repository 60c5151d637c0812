"""Accuracy against the radius of the attack: a row of panels for each attack, a column for each data set."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter

from robench.reports.captions import nothing_yet, written
from robench.reports.evaluations import Run
from robench.reports.figure_data import Drawing, FigureData
from robench.reports.figures.choice import accuracy, lacking, lines, listed, places, trained
from robench.reports.figures.palette import COLORS, label_ends, line, panels

COLUMNS = ("dataset", "attack", "model", "eps", "accuracy", "low", "high", "n", "seed")


def draw(sources: FigureData) -> Drawing:
    """Settings: `models` by their labels; `attacks` by what a row is called; `datasets` the paper's, which come first.

    Bars are 95 % Wilson intervals.
    """
    settings = sources.settings
    models, attacks = settings["models"], settings["attacks"]
    attacked = [run for run in sources.runs if set(attacks.values()) & run.cells.keys()]
    found = places(attacked, models.values(), settings["datasets"])
    shown = {name: lines(runs, models) for name, runs in found.items()}
    rows = [row for name, by_label in shown.items() for row in _rows(name, by_label, attacks)]
    frame = pd.DataFrame(rows, columns=list(COLUMNS)).sort_values(["dataset", "attack", "model", "eps"], kind="stable")
    if not rows:
        return nothing_yet(sources)

    canvas, grid = panels(len(attacks), len(shown), sources.figure.title)
    for axes_row, attack in zip(grid, attacks, strict=True):
        for column, (axes, name) in enumerate(zip(axes_row, shown, strict=True)):
            here = frame[(frame["dataset"] == name) & (frame["attack"] == attack)]
            axes.set_title(f"{attack}, {name}", fontsize=9)
            axes.set_ylabel("accuracy" if column == 0 else "")
            _lines(axes, here, list(models))
    everywhere = {label: list(chain(*(by_label[label] for by_label in shown.values()))) for label in models}
    said = [f"On {name}: {trained(by_label)}" for name, by_label in shown.items()]
    said.append(f"n = {listed(sorted(frame['n'].unique()))}; bars are 95 % Wilson intervals")
    return Drawing(canvas, frame, written(sources, *said, *lacking(sources, everywhere)))


def _lines(axes: Axes, frame: pd.DataFrame, labels: Sequence[str]) -> None:
    """Small radii in steps of 1/255, as images of 8 bits have them."""
    unit = 255 if frame["eps"].max() < 0.1 else 1
    axes.set(xlabel="radius eps, in 1/255" if unit > 1 else "radius eps", ylim=(-0.03, 1.03))
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.set_xticks(sorted(unit * frame["eps"].unique()))
    ends = []
    for place, label in enumerate(labels):
        points = frame[frame["model"] == label]
        if len(points):
            aside = 0.06 * unit * frame["eps"].min() * (place - (len(labels) - 1) / 2)  # so that no bar hides another
            x = unit * points["eps"] + aside
            ends.append((line(axes, x, points, "accuracy", place), label, COLORS[place]))
    label_ends(axes, ends)


def _rows(name: str, shown: Mapping[str, Sequence[Run]], attacks: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    for label, runs in shown.items():
        for run in runs:
            for attack, column in attacks.items():
                if interval := accuracy(run, column):
                    value, low, high = interval
                    yield {
                        "dataset": name,
                        "attack": attack,
                        "model": label,
                        "eps": run.eps,
                        "accuracy": value,
                        "low": low,
                        "high": high,
                        "n": run.summary.n,
                        "seed": run.about["train_seed"],
                    }
