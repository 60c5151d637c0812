"""Colours that differ for the colour-blind, and labels that stand beside what they name."""

from collections.abc import Sequence
from statistics import fmean
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
    share = 11 / 72 * axes.figure.dpi / axes.bbox.height  # a line of small print, of the height of the axes
    heights = spread([height for height, _, _ in ends], share * (high - low))
    for (_, text, color), height in zip(ends, heights, strict=True):
        at = (axes.get_xlim()[1], height)
        written = axes.annotate(text, at, (4, 0), textcoords="offset points", color=color, va="center", fontsize=8)
        written.set_annotation_clip(False)  # it may stand below or above the axes


def spread(values: Sequence[float], gap: float) -> list[float]:
    """The values moved as little as can be (in squares), in their order, until each two differ by `gap`."""
    order = sorted(range(len(values)), key=lambda i: values[i])
    blocks: list[list[float]] = []  # neighbours that touch, each less the gaps below it: isotonic regression
    for place, i in enumerate(order):
        blocks.append([values[i] - place * gap])
        while len(blocks) > 1 and fmean(blocks[-2]) > fmean(blocks[-1]):
            last = blocks.pop()
            blocks[-1] += last
    heights = [fmean(block) for block in blocks for _ in block]
    moved = {i: height + place * gap for place, (i, height) in enumerate(zip(order, heights, strict=True))}
    return [moved[i] for i in range(len(values))]
