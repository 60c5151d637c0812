"""ATLD's two-dimensional toy: boundaries, points, perturbed points and fields of directions, in the plane."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from robench.reports.captions import nothing_yet, written
from robench.reports.figure_data import Drawing, FigureData
from robench.reports.figures.palette import COLORS, panels

CLASSES = ((COLORS[0], "o"), (COLORS[1], "^"))
COLUMNS = ("panel", "what", "x", "y", "dx", "dy", "label")
VIEW = (-1.5, 2.5, -1.2, 1.6)


def draw(sources: FigureData) -> Drawing:
    """Settings: `panels` by their titles, each with the model whose `boundary` it shows, `dashed` another one, and the
    `points` (`points`, `attacked`, `adjusted`, or `perturbed` by a scheme) or the `field` of a scheme.

    From the newest measurement of kind `toy`.
    """
    measurements = sources.measurements("toy")
    if not measurements:
        return nothing_yet(sources)
    toy, settings = measurements[0].found, measurements[0].about["settings"]
    titles = sources.settings["panels"]
    canvas, (row,) = panels(1, len(titles), sources.figure.title, width=3.1, height=2.5)
    frames = []
    for axes, (title, panel) in zip(row, titles.items(), strict=True):
        frames.append(_panel(axes, title, panel, toy))
    said = (
        f"{settings['points']} points on two half-moons with noise {settings['noise']:g}, a network of two hidden "
        f"layers of 64, {settings['epochs']} epochs, within linf {settings['eps']:g} of the plane's units"
    )
    return Drawing(canvas, pd.concat(frames), written(sources, said))


def _panel(axes: Axes, title: str, panel: Mapping[str, Any], toy: Mapping[str, Any]) -> pd.DataFrame:
    """Draws it, and gives what it shows."""
    axes.set(xlim=VIEW[:2], ylim=VIEW[2:], aspect="equal", xticks=range(-1, 3), yticks=range(-1, 2))
    axes.grid(False)
    shown = [_boundary(axes, panel["boundary"], toy, "-", fill=True)]
    if "dashed" in panel:
        shown.append(_boundary(axes, panel["dashed"], toy, "--", fill=False))
    if "field" in panel:
        x, y = np.array(toy["arrows"]).T
        dx, dy = np.array(toy["fields"][panel["field"]]).T
        axes.quiver(x, y, dx, dy, angles="xy", scale=30, width=0.004, color="#333333")
        shown.append(pd.DataFrame({"what": "arrow", "x": x, "y": y, "dx": dx, "dy": dy}))
        axes.set_title(title, fontsize=9)
    else:
        points, right = _points(panel, toy)
        labels = np.array(toy["labels"])
        for label, (color, marker) in enumerate(CLASSES):
            x, y = points[labels == label].T
            axes.scatter(x, y, c=color, marker=marker, s=7, linewidths=0)
        shown.append(pd.DataFrame({"what": "point", "x": points[:, 0], "y": points[:, 1], "label": labels}))
        axes.set_title(f"{title}\n{right}", fontsize=9)
    return pd.concat(shown).assign(panel=title).reindex(columns=list(COLUMNS))


def _points(panel: Mapping[str, Any], toy: Mapping[str, Any]) -> tuple[np.ndarray, str]:
    """[N, 2], and how many of them the model of the boundary gets right."""
    which, accuracy = panel["points"], toy["accuracy"][panel["boundary"]]
    if isinstance(which, dict):
        scheme = which["perturbed"]
        return np.array(toy["perturbed"][scheme]), f"{toy['right'][scheme]:.0%} right"
    if which == "points":
        return np.array(toy["points"]), f"right: {accuracy['clean']:.0%}, under PGD {accuracy['pgd']:.0%}"
    return np.array(toy[which]), f"{accuracy['pgd' if which == 'attacked' else which]:.0%} right"


def _boundary(axes: Axes, model: str, toy: Mapping[str, Any], style: str, *, fill: bool) -> pd.DataFrame:
    margins, (left, right, bottom, top) = np.array(toy["margins"][model]), toy["square"]
    x, y = np.linspace(left, right, margins.shape[1]), np.linspace(bottom, top, margins.shape[0])
    if fill:
        axes.contourf(x, y, margins, levels=[-np.inf, 0, np.inf], colors=[color for color, _ in CLASSES], alpha=0.13)
    drawn = axes.contour(x, y, margins, levels=[0], colors="black", linewidths=1.2, linestyles=style)
    vertices = np.concatenate([np.zeros((0, 2)), *drawn.allsegs[0]])
    return pd.DataFrame({"what": f"boundary of {model}", "x": vertices[:, 0], "y": vertices[:, 1]})
