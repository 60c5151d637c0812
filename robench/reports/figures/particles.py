"""Adversarial examples of one image by several methods: a region of the perturbation, all of it, and the example."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.patches import Rectangle

from robench.reports.captions import caption, methods, nothing_yet, told
from robench.reports.figure_data import Drawing, FigureData

COLUMNS = ("region", "perturbation", "example")


def draw(sources: FigureData) -> Drawing:
    """The region is framed in the perturbation; how the paper chose its own is not said."""
    measured = sources.comparable("particles")
    if not measured:
        return nothing_yet(sources)
    found, eps = measured[0].found, float(measured[0].key["threat"][1])
    x = np.array(found["x"])
    names = methods(sources, "particles")
    deltas = {name: np.array(found["methods"][name]["points"]) - x for name in names}
    corner = region(list(deltas.values()))
    rows = max(map(len, deltas.values()))
    canvas = Canvas(figsize=(3.3 * len(deltas), 1.1 * rows + 0.8), layout="constrained")
    for block, name in zip(canvas.subfigures(1, len(names), wspace=0.04, squeeze=False)[0], names, strict=True):
        method = found["methods"][name]
        block.suptitle(f"{name}: squared l2 apart {method['squared']:.2f}", fontsize=9)
        grid = block.subplots(rows, len(COLUMNS), squeeze=False)
        for axes, title in zip(grid[0], COLUMNS, strict=True):
            axes.set_title(title, fontsize=8)
        for line, delta, prediction in zip(grid, deltas[name], method["predictions"], strict=False):
            _line(line, x, delta, corner, eps, prediction)
    colours = f"from {-eps:g} (blue) to {eps:g} (red)" if len(x) == 1 else f"as colours, {-eps:g} dark, {eps:g} light"
    text = caption(
        sources,
        measured[:1],
        f"Image {measured[0].about['settings']['image']} of the set, class {found['label']}; perturbations {colours}; "
        "the region is where the perturbations of a method differ most",
        told(names),
    )
    return Drawing(canvas, _data(deltas), text)


def region(deltas: list[np.ndarray]) -> tuple[slice, slice]:
    """Rows and columns of the window, half as high and wide as the image, within which perturbations [k, C, H, W] of
    one method differ most; the first of equals."""
    differences = np.sum([delta.var(0).sum(0) for delta in deltas], axis=0)
    size = differences.shape[0] // 2, differences.shape[1] // 2
    sums = np.lib.stride_tricks.sliding_window_view(differences, size).sum((2, 3)).round(9)
    top, left = (int(place) for place in np.unravel_index(sums.argmax(), sums.shape))
    return slice(top, top + size[0]), slice(left, left + size[1])


def _line(
    line: np.ndarray, x: np.ndarray, delta: np.ndarray, corner: tuple[slice, slice], eps: float, prediction: int
) -> None:
    """One example, in three panels."""
    for axes in line:
        axes.set(xticks=[], yticks=[])
        axes.grid(visible=False)
        axes.spines[:].set_visible(True)
    rows, columns = corner
    _perturbation(line[0], delta[:, rows, columns], eps)
    _perturbation(line[1], delta, eps)
    place = columns.start - 0.5, rows.start - 0.5
    line[1].add_patch(Rectangle(place, columns.stop - columns.start, rows.stop - rows.start, fill=False))
    example = (x + delta).transpose(1, 2, 0).clip(0, 1)
    line[2].imshow(example, cmap="gray", vmin=0, vmax=1)
    line[2].set_xlabel(f"read as class {prediction}", fontsize=7, labelpad=2)


def _perturbation(axes: Axes, delta: np.ndarray, eps: float) -> None:
    """One channel in a diverging scale, three as they are, about grey."""
    if len(delta) == 1:
        axes.imshow(delta[0], cmap="RdBu_r", vmin=-eps, vmax=eps)
    else:
        axes.imshow((0.5 + delta.transpose(1, 2, 0) / (2 * eps)).clip(0, 1))


def _data(deltas: dict[str, np.ndarray]) -> pd.DataFrame:
    """A row a pixel."""
    rows: list[tuple[Any, ...]] = [
        (name, example, *place, round(float(value), 5))
        for name, of_method in deltas.items()
        for example, delta in enumerate(of_method, 1)
        for place, value in np.ndenumerate(delta)
    ]
    return pd.DataFrame(rows, columns=["method", "example", "channel", "row", "column", "perturbation"])
