"""What a figure is drawn from, and what drawing it gives."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from robench.ledger.measurements import Measurement, Measurements
from robench.ledger.radius import radius
from robench.reports import evaluations
from robench.reports.published import Published, published
from robench.specs.benchmark import Figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas


@dataclass(frozen=True)
class FigureData:
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

    canvas: "Canvas | None"
    data: pd.DataFrame
    caption: str


def _terms(measurement: Measurement) -> tuple[Any, ...]:
    about = measurement.about
    return about["norm"], radius(about["eps"]), about["arch"], measurement.key["n"]


def _model(measurement: Measurement) -> str:
    return str(measurement.about["defense"] or measurement.about["model"])
