"""Draws the papers' figures from the ledger, the measurements and the published numbers; it measures nothing."""

import importlib
from pathlib import Path
from typing import Any

from robench.reports.escaping import csv_of
from robench.reports.figure_data import Drawing, FigureData
from robench.specs.benchmark import Figure, load_exhibit
from robench.utils.files import replacing

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
    "text.parse_math": False,
}


def draw(id: str, results: Path | str = "results") -> Drawing:
    """The figure of this id; torch is not imported."""
    import matplotlib

    figure: Figure = load_exhibit(Figure, id)
    module = importlib.import_module(f"robench.reports.figures.{figure.draw}")
    with matplotlib.rc_context(STYLE):
        drawing: Drawing = module.draw(FigureData(id, figure, Path(results)))
    return drawing


def write(drawing: Drawing, results: Path | str, id: str) -> list[Path]:
    """figures/ID.png, .svg and .csv into the results folder; the same inputs give the same bytes."""
    import matplotlib

    assert drawing.canvas is not None
    folder = Path(results) / "figures"
    written = [folder / f"{id}.{suffix}" for suffix in ("png", "svg", "csv")]
    with matplotlib.rc_context(STYLE):
        for path, metadata in zip(written, ({"Software": None}, {"Date": None}), strict=False):
            with replacing(path) as temporary:
                drawing.canvas.savefig(temporary, format=path.suffix[1:], metadata=metadata)
    with replacing(written[2]) as temporary:
        temporary.write_text(csv_of(drawing.data))
    return written
