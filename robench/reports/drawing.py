"""Draws the papers' figures from the ledger, the measurements and the published numbers; it measures nothing."""

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import matplotlib
import pandas as pd
from matplotlib.figure import Figure as Canvas

from robench.ledger.measurements import Measurement, Measurements
from robench.ledger.store import radius
from robench.reports import evaluations
from robench.reports.published import Published, published
from robench.specs.benchmark import Figure, load_exhibit
from robench.utils.files import replacing

matplotlib.use("Agg")
STYLE: Any = {
    "svg.hashsalt": "robench",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "figure.dpi": 110,
    "savefig.dpi": 160,
    "savefig.bbox": "tight",
}


@dataclass(frozen=True)
class Sources:
    """What a figure may be drawn from."""

    id: str
    figure: Figure
    results: Path

    @property
    def settings(self) -> Mapping[str, Any]:
        """What the figure's file sets for its drawing."""
        return self.figure.settings

    @cached_property
    def runs(self) -> Sequence[evaluations.Run]:
        """Every evaluation in the ledger, newest first."""
        return evaluations.runs(self.results)

    def measurements(self, kind: str) -> Sequence[Measurement]:
        """Every measurement of a kind with the settings that the figure's file gives it, newest first."""
        settings = {**self.figure.measure, **self.figure.once}.get(kind, {})
        return [
            found
            for found in Measurements(self.results).of_kind(kind)
            if all(found.about["settings"].get(name) == value for name, value in settings.items())
        ]

    def measured_on(self, dataset: str, kind: str) -> list[Measurement]:
        """Those on a data set which may stand side by side, the newest of each model: they agree with the newest of all
        in threat, network and number of images."""
        found = [measurement for measurement in self.measurements(kind) if measurement.dataset == dataset]
        alike = [measurement for measurement in found if _terms(measurement) == _terms(found[0])]
        return list({_model(measurement): measurement for measurement in reversed(alike)}.values())

    def comparable(self, kind: str) -> list[Measurement]:
        """As `measured_on` the paper's data set or, where there are none, the one measured last."""
        datasets = [measurement.dataset for measurement in self.measurements(kind)]
        paper = self.figure.dataset
        return self.measured_on(paper if paper in datasets else datasets[0], kind) if datasets else []

    @cached_property
    def published(self) -> Sequence[Published]:
        """The numbers that the paper prints for the figure."""
        return published(self.id)


@dataclass(frozen=True)
class Drawing:
    """A figure and the numbers in it, a row a point. `caption` says of what they are: data set, network, n, schedule.
    Where there is nothing to draw yet, `canvas` is None and `caption` says which command fills it."""

    canvas: Canvas | None
    data: pd.DataFrame
    caption: str


def _terms(measurement: Measurement) -> tuple[Any, ...]:
    about = measurement.about
    return about["norm"], radius(about["eps"]), about["arch"], measurement.key["n"]


def _model(measurement: Measurement) -> str:
    return str(measurement.about["defense"] or measurement.about["model"])


def draw(id: str, results: Path | str = "results") -> Drawing:
    """The figure of this id; torch is not imported."""
    figure: Figure = load_exhibit(Figure, id)
    module = importlib.import_module(f"robench.reports.figures.{figure.draw}")
    with matplotlib.rc_context(STYLE):
        drawing: Drawing = module.draw(Sources(id, figure, Path(results)))
    return drawing


def write(drawing: Drawing, results: Path | str, id: str) -> list[Path]:
    """figures/ID.png, .svg and .csv into the results folder; the same inputs give the same bytes."""
    assert drawing.canvas is not None
    folder = Path(results) / "figures"
    written = [folder / f"{id}.{suffix}" for suffix in ("png", "svg", "csv")]
    with matplotlib.rc_context(STYLE):
        for path, metadata in zip(written, ({"Software": None}, {"Date": None}), strict=False):
            with replacing(path) as temporary:
                drawing.canvas.savefig(temporary, format=path.suffix[1:], metadata=metadata)
    with replacing(written[2]) as temporary:
        temporary.write_text(drawing.data.to_csv(index=False, float_format="%.6g", lineterminator="\n"))
    return written
