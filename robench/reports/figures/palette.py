"""Colours that differ for the colour-blind, and labels that stand beside what they name."""

from collections.abc import Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's, the best seen on white first."""

MARKERS = ("o", "s", "^", "D", "v", "P", "X")
"""So that a line is known without its colour."""


def panels(
    rows: int, columns: int, title: str, *, width: float = 4.2, height: float = 2.8
) -> tuple[Canvas, list[list[Axes]]]:
    """A canvas under a title, and its axes by row and column; `width` and `height` of each in inches."""
    canvas = Canvas(figsize=(width * columns, height * rows + 0.5), layout="constrained")
    canvas.suptitle(title, fontsize=11)
    axes = canvas.subplots(rows, columns, squeeze=False)
    return canvas, [list(row) for row in axes]


def line(axes: Axes, x: "pd.Series[Any]", points: pd.DataFrame, y: str, place: int) -> float:
    """The points with bars from `low` to `high`, and a line through the means of those that share their x; the height
    of its end. `place` among the lines of the axes gives colour and marker."""
    bars = [points[y] - points["low"], points["high"] - points[y]]
    axes.errorbar(x, points[y], bars, fmt=MARKERS[place], color=COLORS[place], markersize=4, elinewidth=0.8)
    mean = points.groupby(x)[y].mean()
    axes.plot(list(mean.index), list(mean), color=COLORS[place], linewidth=1.4)
    return float(mean.iloc[-1])


def label_ends(axes: Axes, ends: Sequence[tuple[float, str, str]]) -> None:
    """Writes (height, text, colour) to the right of the axes, beside each line's end but never over another."""
    low, high = axes.get_ylim()
    ordered = sorted(ends)
    heights = spread([(height - low) / (high - low) for height, _, _ in ordered], 0.07)
    for (_, text, color), height in zip(ordered, heights, strict=True):
        axes.annotate(text, (1.02, height), xycoords="axes fraction", color=color, va="center", fontsize=8)


def spread(heights: Sequence[float], gap: float) -> list[float]:
    """Rising heights, moved no farther than it takes for neighbours to be `gap` apart: whatever is too close is stacked
    about its middle."""
    groups: list[list[float]] = []
    for height in heights:
        groups.append([height])
        while len(groups) > 1 and _stacked(groups[-1], gap)[0] < _stacked(groups[-2], gap)[-1] + gap:
            groups[-2:] = [groups[-2] + groups[-1]]
    return [height for group in groups for height in _stacked(group, gap)]


def _stacked(group: Sequence[float], gap: float) -> list[float]:
    middle = sum(group) / len(group)
    return [middle + gap * (place - (len(group) - 1) / 2) for place in range(len(group))]
