"""A paper's table as Markdown, CSV, LaTeX or HTML."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from jinja2 import Environment

from robench.reports.escaping import csv_lines, markdown, pipe
from robench.reports.formats import TableFormat
from robench.reports.latex import comments, tabular, tex
from robench.reports.measured import Measured
from robench.reports.ranking import percent
from robench.reports.tables import Block, Grid

LONG = (
    *("table", "model", "attack", "source", "data", "accuracy", "low", "high", "spread", "n", "seeds", "difference"),
    *("network", "schedule", "notes"),
)


def typeset(grids: Sequence[Grid], format: TableFormat) -> str:
    """`csv` has a line for each number; the others lay it out as the paper does, the measured beside the printed."""
    if format == "csv":
        return _csv(grids)
    lay = {"md": _markdown, "latex": _latex, "html": _html}[format]
    return "\n\n".join(lay(_laid_out(grid)) for grid in grids)


@dataclass(frozen=True)
class ColumnGroup:
    """Columns side by side under one heading; an unnamed column has the group to itself."""

    heading: str
    columns: Sequence[str]
    cell: Callable[[str, str], str]
    """the text of a line's column"""


@dataclass(frozen=True)
class Layout:
    """A table as text: what stands over it, its groups of columns, its lines, then the runs and the notes."""

    name: str
    title: str
    caption: str
    groups: Sequence[ColumnGroup]
    body: Sequence[Sequence[str]]
    runs: Sequence[Sequence[str]]
    notes: Sequence[str]

    RUNS: ClassVar = ("run of", "data", "network", "schedule", "n", "seeds", "differs in")

    @property
    def columns(self) -> list[str]:
        return [column for group in self.groups for column in group.columns]


def _laid_out(grid: Grid) -> Layout:
    groups = [_printed(grid), _own(grid), *(_other(grid, block) for block in grid.others)]
    return Layout(
        f"{grid.id}-{grid.dataset}",
        f"{grid.id}: {grid.title} ({grid.paper})",
        _caption(grid),
        groups,
        [[row, *(group.cell(row, column) for group in groups for column in group.columns)] for row in grid.rows],
        [
            [row, block.data, run.arch, run.schedule, str(run.n), " ".join(map(str, run.seeds)), "; ".join(run.differs)]
            for block in (grid.own, *grid.others)
            for row, run in block.provenance.items()
        ],
        _notes(grid),
    )


def _caption(grid: Grid) -> str:
    units = " and ".join(sorted({number.unit for number in grid.published.values()}))
    return (
        f"Published on {grid.dataset}, {grid.threat}: accuracy, {units}. Measured: percent, with Wilson's 95 % "
        "interval, or the mean and standard deviation over seeds; on the paper's data with the difference in points. "
        "An image counts as broken where any iterate fools the model, not only the last."
    )


def _printed(grid: Grid) -> ColumnGroup:
    def cell(row: str, column: str) -> str:
        number = grid.published.get((row, column))
        return number.value if number else ""

    return ColumnGroup("published", grid.columns, cell)


def _own(grid: Grid) -> ColumnGroup:
    heading = f"measured on {grid.own.data}"
    if not grid.own.numbers:
        return ColumnGroup(heading, [""], lambda row, column: _empty(grid, row, grid.command))

    def cell(row: str, column: str) -> str:
        found, gap = grid.own.numbers.get((row, column)), grid.difference(row, column)
        if found is None:
            return _empty(grid, row, grid.command) if (row, column) in grid.published else ""
        star = "*" if grid.own.provenance[row].differs else ""
        difference = "" if gap is None else f" ({100 * gap:+.1f})"
        return f"{_number(found)}{difference}{star}{_letters(grid, found)}"

    return ColumnGroup(heading, grid.columns, cell)


def _other(grid: Grid, block: Block) -> ColumnGroup:
    dataset, _, threat = block.data.partition(", ")
    radius = f" --eps {threat.split()[-1]}" if dataset == grid.dataset else ""
    command = f"robench bench {grid.id} --dataset {dataset}{radius}"

    def cell(row: str, column: str) -> str:
        found = block.numbers.get((row, column))
        return _number(found) + _letters(grid, found) if found else _empty(grid, row, command)

    columns = [column for column in grid.columns if any(column == filled for _, filled in block.numbers)]
    return ColumnGroup(block.data, columns, cell)


def _empty(grid: Grid, row: str, command: str) -> str:
    return command if row in grid.runnable else "published only"


def _number(found: Measured) -> str:
    if found.interval:
        return f"{percent(found.value)} [{percent(found.interval.low)}, {percent(found.interval.high)}]"
    return f"{percent(found.value)} ± {percent(found.spread)}"


def _letters(grid: Grid, found: Measured) -> str:
    letters = "".join(chr(ord("a") + _marks(grid).index(mark)) for mark in found.marks)
    return f" ({letters})" if letters else ""


def _marks(grid: Grid) -> list[str]:
    numbers = (found for block in (grid.own, *grid.others) for found in block.numbers.values())
    return list(dict.fromkeys(mark for found in numbers for mark in found.marks))


def _notes(grid: Grid) -> list[str]:
    notes = [f"({chr(ord('a') + place)}) {mark}" for place, mark in enumerate(_marks(grid))]
    if any(run.differs for run in grid.own.provenance.values()):
        notes.append("* not run as in the paper; the runs say in what")
    of_models: dict[str, list[str]] = {}
    for number in grid.published.values():
        if number.note:
            of_models.setdefault(number.note, []).append(number.model)
    return notes + [f"{', '.join(dict.fromkeys(models))}: {note}" for note, models in of_models.items()]


def _markdown(layout: Layout) -> str:
    header = ["model"]
    for place, group in enumerate(layout.groups):
        prefix = "" if place == 0 else group.heading
        header += [": ".join(filter(None, (prefix, column))) for column in group.columns]
    lines = [f"### {markdown(layout.title)}", "", markdown(layout.caption), "", *_pipes(header, layout.body)]
    runs = ["", *_pipes(layout.RUNS, layout.runs)] if layout.runs else []
    return "\n".join([*lines, *runs, "", *(f"- {markdown(note)}" for note in layout.notes)]).rstrip()


def _pipes(header: Sequence[str], body: Sequence[Sequence[str]]) -> list[str]:
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *body]
    return list(map(pipe, lines))


def _latex(layout: Layout) -> str:
    """A tabular; what else there is to say stands above it as comments."""
    headings = [rf"\multicolumn{{{len(group.columns)}}}{{c}}{{{tex(group.heading)}}}" for group in layout.groups]
    heads = [["", *headings], ["model", *map(tex, layout.columns)]]
    above = [layout.title, layout.caption, *(", ".join(run) for run in layout.runs), *layout.notes]
    table = tabular(f"l{'r' * len(layout.columns)}", heads, [list(map(tex, line)) for line in layout.body])
    return "\n".join([*comments(above), *table])


def _html(layout: Layout) -> str:
    source = (Path(__file__).parent / "table.html.j2").read_text()
    return Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(source).render(layout=layout)


def _csv(grids: Sequence[Grid]) -> str:
    """Accuracies as fractions; `source` is published or measured."""
    lines = [
        [grid.id, row, column, *line]
        for grid in grids
        for row in grid.rows
        for column in grid.columns
        for line in _long(grid, row, column)
    ]
    return csv_lines([LONG, *lines]).rstrip("\n")


def _long(grid: Grid, row: str, column: str) -> Iterator[list[str]]:
    if number := grid.published.get((row, column)):
        data = f"{grid.dataset}, {grid.threat}"
        yield ["published", data, f"{number.fraction:.6g}", *[""] * 8, number.note]
    for block in (grid.own, *grid.others):
        if found := block.numbers.get((row, column)):
            run, interval = block.provenance[row], found.interval
            gap = grid.difference(row, column) if block is grid.own else None
            figures = [found.value, *((interval.low, interval.high) if interval else (None, None)), found.spread]
            written = ["" if figure is None else f"{figure:.6g}" for figure in figures]
            difference = "" if gap is None else f"{gap:.6g}"
            seeds, notes = " ".join(map(str, run.seeds)), "; ".join([*run.differs, *found.marks])
            yield ["measured", block.data, *written, str(found.n), seeds, difference, run.arch, run.schedule, notes]
