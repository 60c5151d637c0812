"""The loss around an image for each model, and how curved it is at many: dominant eigenvalues of its Hessian."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from robench.ledger.measurements import Measurement
from robench.reports.captions import caption, nothing_yet
from robench.reports.figure_data import Drawing, FigureData
from robench.reports.figures.palette import COLORS


def draw(sources: FigureData) -> Drawing:
    """`models` of the settings: what the paper prints for each defense."""
    surfaces = {each.about["defense"]: each for each in sources.comparable("loss_surface")}
    curvatures = {each.about["defense"]: each for each in sources.comparable("curvature")}
    models = sources.settings["models"]
    names = {printed: name for printed, name in models.items() if name in surfaces and name in curvatures}
    if not names:
        return nothing_yet(sources)
    measured = [curvatures[name] for name in names.values()]
    losses = {printed: np.array(surfaces[name].found["loss"]) for printed, name in names.items()}
    eigenvalues = {printed: np.array(curvatures[name].found["eigenvalues"]) for printed, name in names.items()}
    first = surfaces[next(iter(names.values()))]
    columns = -(-(len(names) + 1) // 2)
    canvas = Canvas(figsize=(3.6 * columns, 6.4))
    grid = canvas.add_gridspec(2, columns, wspace=0.25, hspace=0.2)
    for place, (name, loss) in enumerate(losses.items()):
        _surface(canvas.add_subplot(grid[place], projection="3d"), name, loss, first.found["radius"])
    published = _published(sources)
    cell = grid[len(names)].subgridspec(1, 3, width_ratios=(3, 10, 2), wspace=0)  # room for names and numbers
    _eigenvalues(canvas.add_subplot(cell[1]), eigenvalues, published)
    text = caption(
        sources,
        measured,
        f"Surfaces, each on its own scale: cross-entropy around image {first.about['settings']['image']} of the set "
        f"(class {first.found['label']}), as far as {first.found['radius']:g} in l-infinity along the sign of its "
        "gradient and a random vector of signs",
        *_words(eigenvalues, measured, published),
    )
    return Drawing(canvas, _data(losses, first.found["radius"], eigenvalues), text)


def _surface(axes: Any, name: str, loss: np.ndarray, radius: float) -> None:
    """On a scale of its own, which its title tells."""
    along = np.linspace(-radius, radius, len(loss))
    a, b = np.meshgrid(along, along, indexing="ij")
    axes.plot_surface(a, b, loss, cmap="viridis", rcount=len(loss), ccount=len(loss), linewidth=0.1)
    axes.set(xlabel="gradient", ylabel="random")
    axes.set_title(f"{name}: loss up to {loss.max():.3g}", y=1.0)
    axes.locator_params(nbins=5)
    axes.tick_params(labelsize=7, pad=-1)
    axes.view_init(elev=22, azim=-130)


def _published(sources: FigureData) -> Mapping[str, tuple[float, float]]:
    """By model, the mean and the deviation of the eigenvalues."""
    values = {(each.model, each.metric): float(each.value) for each in sources.published}
    return {model: (values[model, "mean"], values[model, "std"]) for model, _ in values}


def _eigenvalues(
    axes: Axes, eigenvalues: Mapping[str, np.ndarray], published: Mapping[str, tuple[float, float]]
) -> None:
    """A row a model: a dot at the mean, a line to the mean and one deviation, the published ones below them."""
    for place, (name, values) in enumerate(eigenvalues.items()):
        rows = [(place - 0.15, "o", COLORS[0], COLORS[0], (float(values.mean()), float(values.std())))]
        if name in published:
            rows.append((place + 0.15, "D", COLORS[1], "white", published[name]))
        for height, marker, colour, fill, (mean, deviation) in rows:
            axes.plot([mean, mean + deviation], [height, height], color=colour, linewidth=1)
            axes.plot(mean, height, marker, color=colour, mfc=fill, markersize=5)
            text = f"{mean:.3g} ± {deviation:.3g}"
            axes.text(1.02, height, text, transform=axes.get_yaxis_transform(), va="center", fontsize=7, color=colour)
    axes.set_xscale("log")
    axes.set_yticks(range(len(eigenvalues)), list(eigenvalues))
    axes.set_ylim(len(eigenvalues) - 0.5, -0.5)
    axes.set(xlabel="dominant eigenvalue, mean and + 1 std", title="Hessian: ● measured, ◇ published")


def _words(
    eigenvalues: Mapping[str, np.ndarray], measured: Sequence[Measurement], published: Mapping[str, tuple[float, float]]
) -> list[str]:
    unsettled = sum(each.found["images"] - each.found["converged"] for each in measured)
    settings = measured[0].about["settings"]
    numbers = "; ".join(
        f"{name} {values.mean():.4g} ± {values.std():.4g}"
        + (f" (published {published[name][0]:g} ± {published[name][1]:g})" if name in published else "")
        for name, values in eigenvalues.items()
    )
    return [
        f"Dominant eigenvalue (largest in absolute value) of the Hessian of the cross-entropy, mean and standard "
        f"deviation over the images: {numbers}",
        f"{unsettled} of {sum(map(len, eigenvalues.values()))} had not converged to {settings['tolerance']:g} of "
        f"themselves after {settings['iterations']} power iterations",
    ]


def _data(losses: Mapping[str, np.ndarray], radius: float, eigenvalues: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """A row a point of the surfaces (gradient, random: how far along each direction; value: the loss), then a row an
    image (value: the eigenvalue)."""
    columns = ["part", "model", "image", "gradient", "random", "value"]
    surfaces = [
        ("surface", name, None, *(radius * (2 * place / (len(loss) - 1) - 1) for place in at), value)
        for name, loss in losses.items()
        for at, value in np.ndenumerate(loss)
    ]
    values = [
        ("eigenvalue", name, image, None, None, value)
        for name, of_model in eigenvalues.items()
        for image, value in enumerate(of_model, 1)
    ]
    return pd.DataFrame([*surfaces, *values], columns=columns)
