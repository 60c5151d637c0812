"""Accuracy of each model, the target, under attacks crafted on each, the source: a matrix for each attack."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from robench.reports.captions import nothing_yet
from robench.reports.evaluations import Run
from robench.reports.figure_data import Drawing, FigureData
from robench.reports.figures.choice import accuracy, caption, lines, listed, one_place, where
from robench.reports.figures.palette import panels

COLUMNS = ("attack", "target", "source", "target_seed", "source_seed", "accuracy", "low", "high", "n")


def draw(sources: FigureData) -> Drawing:
    """Settings: `models` by their labels; `attacks`, the transfer attacks by what a matrix is called.

    A number is the mean over pairs of trainings, a model never being its own source; so the diagonal needs two seeds.
    """
    models, attacks = sources.settings["models"], sources.settings["attacks"]
    attacked = [run for run in sources.runs if any(_source(run, name, attacks) for name in run.cells)]
    shown = lines(one_place(attacked, models.values(), sources.figure.dataset), models)
    rows = [row for label, runs in shown.items() for run in runs for row in _rows(label, run, shown, attacks)]
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    if not rows:
        return nothing_yet(sources)

    title = f"{sources.figure.title}\n{where(next(run for runs in shown.values() for run in runs))}"
    width, height = 1.2 + 0.72 * len(models), 0.8 + 0.62 * len(models)
    canvas, (axes_row,) = panels(1, len(attacks), title, width=width, height=height)
    for axes, attack in zip(axes_row, attacks, strict=True):
        axes.set_title(f"{attack}: accuracy in %", fontsize=9)
        _matrix(axes, frame[frame["attack"] == attack], list(models))
    n = listed(sorted(frame["n"].unique()))
    pairs = "means over pairs of different trainings; a dash: no such pair was run (a diagonal needs two seeds)"
    return Drawing(canvas, frame, caption(sources, shown, f"n = {n}; {pairs}"))


def _matrix(axes: Axes, frame: pd.DataFrame, labels: Sequence[str]) -> None:
    values = np.full((len(labels), len(labels)), np.nan)
    for row, column in np.ndindex(values.shape):
        pairs = frame[(frame["target"] == labels[row]) & (frame["source"] == labels[column])]
        values[row, column] = pairs["accuracy"].mean()
    axes.imshow(np.ma.masked_invalid(values), cmap="cividis", vmin=0, vmax=1)
    for (row, column), value in np.ndenumerate(values):
        text = "-" if np.isnan(value) else f"{100 * value:.1f}"
        axes.text(column, row, text, ha="center", va="center", color="white" if value < 0.55 else "black", fontsize=8)
    axes.set_xticks(range(len(labels)), labels, rotation=35, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(labels)), labels)
    axes.set(xlabel="source model", ylabel="target model")
    axes.grid(False)
    axes.spines[:].set_visible(False)


def _rows(
    target: str, run: Run, shown: Mapping[str, Sequence[Run]], attacks: Mapping[str, str]
) -> Iterator[dict[str, Any]]:
    """One for each source of the run that is shown."""
    by_model = {other.about["model"]: (label, other) for label, others in shown.items() for other in others}
    for name in run.cells:
        attack, model = _source(run, name, attacks) or ("", "")
        interval = accuracy(run, name)
        if model in by_model and interval:
            source, other = by_model[model]
            yield {
                "attack": attack,
                "target": target,
                "source": source,
                "target_seed": run.about["train_seed"],
                "source_seed": other.about["train_seed"],
                "accuracy": interval.value,
                "low": interval.low,
                "high": interval.high,
                "n": run.summary.n,
            }


def _source(run: Run, name: str, attacks: Mapping[str, str]) -> tuple[str, str] | None:
    """Of a cell that holds one of the attacks from one source, what its matrix is called and the source's name."""
    names = run.cells[name].about.get("sources") or []
    for attack, column in attacks.items():
        if len(names) == 1 and name == f"{column} from {names[0]}":
            return attack, names[0]
    return None
