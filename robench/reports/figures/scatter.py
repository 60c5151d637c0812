"""Adversarial examples of some images in the plane of their first two principal components, by attack."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from robench.reports.captions import caption, methods, nothing_yet, told
from robench.reports.figure_data import Drawing, FigureData
from robench.reports.figures.palette import COLORS, MARKERS
from robench.reports.published import Published


def draw(sources: FigureData) -> Drawing:
    """Beside them, for each image, the mean distance between two of its points under the first two attacks."""
    measured = sources.comparable("spread")
    if not measured:
        return nothing_yet(sources)
    found, attacks = measured[0].found, methods(sources, "spread")
    shown = found["shown"]
    canvas = Canvas(figsize=(10.2, 5.0), layout="constrained")
    columns = -(-len(shown) // 2)
    grid = canvas.add_gridspec(2, columns + 2)
    for place, image in enumerate(shown):
        _plane(canvas.add_subplot(grid[place // columns, place % columns]), image, list(attacks), legend=place == 0)
    published = sources.published if measured[0].dataset == sources.figure.dataset else []
    distances = {name: found["distances"][name] for name in attacks}
    _distances(canvas.add_subplot(grid[:, columns:]), distances, published)
    numbers = "; ".join(
        f"{name} {np.mean(of_attack):.3f}, {100 * found['fooled'][name]:.1f} % of its points adversarial"
        for name, of_attack in distances.items()
    )
    printed = " and ".join(f"{each.value} for {each.attack}" for each in sources.published)
    text = caption(
        sources,
        measured[:1],
        f"{told(attacks)}, in the plane of the first two principal components (with their shares of the variance)",
        f"Mean l2 distance between two points of an image: {numbers}; published: {printed}",
    )
    return Drawing(canvas, _data(found), text)


def _plane(axes: Axes, image: dict[str, Any], names: list[str], *, legend: bool) -> None:
    """The points of one image; its axes have one scale."""
    for name, colour, marker in zip(names, COLORS, MARKERS, strict=False):
        x, y = np.array(image["points"][name]).T
        axes.scatter(x, y, s=14, marker=marker, color=colour, alpha=0.65, linewidths=0, label=name)
    axes.plot(*image["origin"], "+", color="black", markersize=9, label="the image")
    first, second = (f"PC {number} ({100 * share:.0f} %)" for number, share in enumerate(image["explained"], 1))
    axes.set(xlabel=first, ylabel=second, title=f"Image {image['row'] + 1}, class {image['label']}")
    axes.set_aspect("equal", adjustable="datalim")
    if legend:
        axes.legend(fontsize=7, frameon=True, handletextpad=0.2, borderpad=0.3)


def _distances(axes: Axes, distances: dict[str, list[float]], published: Sequence[Published]) -> None:
    """An image a point; above the diagonal the second attack's points lie farther apart."""
    (first, x), (second, y) = list(distances.items())[:2]
    axes.scatter(x, y, s=16, color=COLORS[2], alpha=0.6, linewidths=0, label="an image")
    axes.plot(np.mean(x), np.mean(y), "P", color="black", markersize=10, label="mean of the images")
    printed = {each.attack: float(each.value) for each in published}
    if {first, second} <= printed.keys():
        axes.plot(printed[first], printed[second], "D", color="black", mfc="none", markersize=8, label="published mean")
    top = 1.06 * max([*x, *y, *printed.values()])
    axes.plot([0, top], [0, top], color="grey", linewidth=0.8, linestyle="--", zorder=0)
    axes.set(
        xlim=(0, top),
        ylim=(0, top),
        aspect="equal",
        xlabel=f"{first} (l2)",
        ylabel=f"{second} (l2)",
        title="Mean distance between two points of an image",
    )
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=3, fontsize=8, frameon=False)


def _data(found: Mapping[str, Any]) -> pd.DataFrame:
    """A row a point of the planes (x, y: its coordinates), then a row an image and attack (x: the mean distance)."""
    columns = ["part", "image", "attack", "x", "y"]
    points = [
        ("plane", image["row"] + 1, name, *point)
        for image in found["shown"]
        for name, of_attack in image["points"].items()
        for point in of_attack
    ]
    distances = [
        ("distance", image, name, distance, np.nan)
        for name, of_attack in found["distances"].items()
        for image, distance in enumerate(of_attack, 1)
    ]
    return pd.DataFrame([*points, *distances], columns=columns)
