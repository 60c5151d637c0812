"""What a results folder holds for a page, and what it lacks: a broken cell hides no other."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from robench.ledger.cell import Cell
from robench.ledger.schema import CLEAN, DIAGNOSIS
from robench.reports.evaluations import Reading, Run, evaluation_id, leave_out
from robench.reports.page.gallery import Gallery, galleries
from robench.reports.ranking import nothing_in, ranked


@dataclass(frozen=True)
class Survey:
    """`runs` in the leaderboard's order, `galleries` by the id of their run; `unread`: what cannot be read, with the
    remedy; `unfinished`: what was started and has not ended."""

    runs: Sequence[Run]
    galleries: Mapping[str, Gallery]
    unread: Sequence[str]
    unfinished: Sequence[str]


def survey(results: Path | str) -> Survey:
    """What cannot be read is left out, with a `LedgerWarning` too."""
    return survey_of(Reading.of(results), results)


def survey_of(reading: Reading, results: Path | str) -> Survey:
    """The same of a ledger that was read."""
    unread, sizes = list(reading.broken), {cell: cell.size() for cell in reading.cells}
    if not (sizes or unread):
        raise nothing_in(results)
    pictures = galleries(results, unread)
    leave_out(unread)
    within = sorted(sentence.replace(f"{Path(results)}/", "") for sentence in unread)  # the same wherever it lies
    return Survey(ranked(reading.runs), pictures, within, sorted(_unfinished(reading.runs, sizes)))


def _unfinished(found: Sequence[Run], sizes: Mapping[Cell, int]) -> Iterator[str]:
    groups: dict[str, list[Cell]] = defaultdict(list)
    for cell in sizes:
        if cell.about["attack"] != DIAGNOSIS and cell.about.get("protocol") != "static":
            groups[evaluation_id(cell.key)].append(cell)
    shown = {run.id: run for run in found}
    for id, cells in groups.items():
        if not any(sizes[cell] for cell in cells if cell.about["attack"] == CLEAN):
            yield f"{cells[0].evaluated} has no clean predictions yet; {_goes_on(cells[0])}"
        elif id in shown:
            yield from _unfinished_attacks(cells, shown[id], sizes)


def _unfinished_attacks(cells: Sequence[Cell], run: Run, sizes: Mapping[Cell, int]) -> Iterator[str]:
    widest = max(map(sizes.__getitem__, cells))
    chosen = {name: cell for name, cell in run.cells.items() if name != DIAGNOSIS}
    started = {cell.about["attack"]: cell for cell in cells if cell.about["attack"] not in chosen}
    for name, cell in started.items():
        yield f"{cell.evaluated}: {name} has {sizes[cell]} of {widest} examples and is left out; {_goes_on(cell)}"
    for name, cell in chosen.items():
        if sizes[cell] < widest:
            yield (
                f"{cell.evaluated}: {name} has {sizes[cell]} of {widest} examples, so all accuracies of this model are "
                f"over {run.summary.n}; {_goes_on(cell)}"
            )


def _goes_on(cell: Cell) -> str:
    return f"to go on: {cell.run.get('command', 'run it again')}"
