"""Writes what people read into the results folder."""

from pathlib import Path

import pandas as pd

from robench.atomic import replacing
from robench.benchmark import Figure, Table, exhibits
from robench.reading import drawing, page, ranking, tables, typesetting

FORMATS = {"md": "md", "csv": "csv", "latex": "tex", "html": "html"}
"""Of a paper's table, and how their files end."""


def publish(results: Path | str = "results") -> pd.DataFrame:
    """leaderboard.csv, .md and .html of everything in the ledger, from one reading; gives the leaderboard."""
    found = page.survey(results)
    page.write(found, results)
    frame = ranking.frame_of(found.runs, results)
    ranking.write(frame, results)
    return frame


def paths(results: Path | str) -> list[Path]:
    """What `publish` writes."""
    return [*ranking.paths(results), page.path(results)]


def publish_benchmark(name: str, own: pd.DataFrame, results: Path | str) -> list[Path]:
    """A paper's table or figure as such, of another benchmark its own leaderboard; gives the paths."""
    if name in exhibits(Figure):
        drawn = drawing.draw(name, results)
        return drawing.write(drawn, results, name) if drawn.canvas is not None else []
    if name in exhibits(Table):
        grids = tables.build(name, results)
        texts = {suffix: typesetting.typeset(grids, format) + "\n" for format, suffix in FORMATS.items()}
    else:
        texts = {"csv": ranking.to_csv(own), "md": ranking.to_markdown(own)}
    return [_written(Path(results) / "tables" / f"{Path(name).stem}.{suffix}", text) for suffix, text in texts.items()]


def _written(path: Path, text: str) -> Path:
    with replacing(path) as temporary:
        temporary.write_text(text)
    return path
