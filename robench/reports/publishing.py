"""Writes what people read into the results folder."""

from collections import defaultdict
from collections.abc import Callable, Collection
from pathlib import Path

import pandas as pd

from robench.ledger.cell import Cell
from robench.reports import drawing, page, ranking, tables, typesetting
from robench.reports.evaluations import Reading, countable, leave_out, nothing_readable, runs_of
from robench.reports.formats import TableFormat
from robench.specs.benchmark import Figure, Table, exhibits, load
from robench.utils.files import replacing

FORMATS: dict[TableFormat, str] = {"md": "md", "csv": "csv", "latex": "tex", "html": "html"}
"""Of a paper's table, and how their files end."""


def publish(results: Path | str = "results", *, with_page: bool = True) -> pd.DataFrame:
    """leaderboard.csv and .md of everything in the ledger, and .html where it is asked for, from one reading; gives the
    leaderboard."""
    reading = Reading.of(results)
    if with_page:
        page.write(page.survey_of(reading, results), results)
    else:
        leave_out(reading.broken)
    if reading.broken and not reading.runs:
        raise nothing_readable(results, reading.broken)
    frame = ranking.frame_of(ranking.ranked(reading.runs), results)
    ranking.write(frame, results)
    return frame


def paths(results: Path | str) -> list[Path]:
    """What `publish` writes with a page."""
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


def publish_queue(filled_by: Callable[[Cell], list[str]], defenses: Collection[str], results: Path | str) -> list[Path]:
    """leaderboard.csv and .md, a leaderboard of its own for each table that cells fill, and the papers' tables that
    show one of the defenses, all from one reading; gives the paths."""
    reading = Reading.of(results)
    evaluated = reading.runs
    leave_out(reading.broken)
    ranking.write(ranking.frame_of(ranking.ranked(evaluated), results), results)
    tables_of: dict[str, list[Cell]] = defaultdict(list)
    for cell in reading.cells:
        for table in filled_by(cell):
            tables_of[table].append(cell)
    written = ranking.paths(results)
    for table, cells in sorted(tables_of.items()):
        own = ranking.frame_of(ranking.ranked(countable(runs_of(cells), [])), results)
        written += publish_benchmark(table, own, results)
    for id in exhibits(Table):
        if not {entry.defense for entry in load(id).trained}.isdisjoint(defenses):
            text = typesetting.typeset(tables.build(id, results, evaluated), "md") + "\n"
            written.append(_written(Path(results) / "tables" / f"{id}.md", text))
    return written


def _written(path: Path, text: str) -> Path:
    with replacing(path) as temporary:
        temporary.write_text(text)
    return path
