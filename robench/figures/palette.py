"""Colours that differ for the colour-blind, and labels that stand beside what they name."""

from collections.abc import Sequence

from matplotlib.axes import Axes

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's, the best seen on white first."""

MARKERS = ("o", "s", "^", "D", "v", "P", "X")
"""So that a line is known without its colour."""


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
