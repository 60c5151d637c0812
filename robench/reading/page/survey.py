"""What a results folder holds for a page, and what it lacks: a broken cell hides no other."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from robench.errors import UserError
from robench.ledger import CLEAN, DIAGNOSIS, Cell, Ledger
from robench.reading.page.gallery import Gallery, galleries
from robench.reading.ranking import nothing_in, ranked
from robench.reading.runs import Run, evaluation_id, leave_out, runs_of

NEEDED = {
    "key": ("model", "dataset", "threat", "attack"),
    "about": ("attack", "model", "arch", "defense", "recipe", "train_seed", "trained_on", "dataset", "norm", "eps"),
    "run": ("started",),
}
"""What a cell must say of itself to be shown."""

PROBED = {"probed", "zero", "nonfinite", "saturated", "standing", "extreme"}
"""What a diagnosis says."""


@dataclass(frozen=True)
class Survey:
    """`runs` in the leaderboard's order, `galleries` by the id of their run; `unread`: what cannot be read, with the
    remedy; `unfinished`: what was begun and not ended."""

    runs: Sequence[Run]
    galleries: Mapping[str, Gallery]
    unread: Sequence[str]
    unfinished: Sequence[str]


def survey(results: Path | str) -> Survey:
    """What cannot be read is left out, with a `LedgerWarning` too."""
    whole, unread = Ledger(results).readable()
    sizes: dict[Cell, int] = {}
    for cell in whole:
        try:
            sizes[cell] = _examine(cell)
        except UserError as error:
            unread.append(str(error))
    if not (sizes or unread):
        raise nothing_in(results)
    found = [run for run in runs_of(sizes) if _summarises(run, unread)]
    pictures = galleries(results, unread)
    leave_out(unread)
    within = sorted(sentence.replace(f"{Path(results)}/", "") for sentence in unread)  # the same wherever it lies
    return Survey(ranked(found), pictures, within, sorted(_unfinished(found, sizes)))


def _examine(cell: Cell) -> int:
    """The number of its rows; an error where it cannot be shown."""
    for part, names in NEEDED.items():
        if lacking := [name for name in names if name not in getattr(cell, part)]:
            path = cell.path / "cell.json"
            raise UserError(f"{path} lacks {', '.join(lacking)}; remove the folder {cell.path} and run again")
    if cell.about["attack"] == DIAGNOSIS and cell.found is not None and not set(cell.found) >= PROBED:
        raise UserError(f"{cell.path / 'found.json'} holds no diagnosis; remove it and run again")
    return cell.size()


def _summarises(run: Run, unread: list[str]) -> bool:
    try:
        return run.summary.n > 0
    except UserError as error:
        unread.append(f"{_name(run.cells[CLEAN])} cannot be shown: {error}")
        return False


def _unfinished(found: Sequence[Run], sizes: Mapping[Cell, int]) -> Iterator[str]:
    groups: dict[str, list[Cell]] = defaultdict(list)
    for cell in sizes:
        if cell.about["attack"] != DIAGNOSIS and cell.about.get("protocol") != "static":
            groups[evaluation_id(cell.key)].append(cell)
    shown = {run.id: run for run in found}
    for id, cells in groups.items():
        if not any(sizes[cell] for cell in cells if cell.about["attack"] == CLEAN):
            yield f"{_name(cells[0])} has no clean predictions yet; {_goes_on(cells[0])}"
        elif id in shown:
            yield from _unfinished_attacks(cells, shown[id], sizes)


def _unfinished_attacks(cells: Sequence[Cell], run: Run, sizes: Mapping[Cell, int]) -> Iterator[str]:
    widest = max(map(sizes.__getitem__, cells))
    chosen = {name: cell for name, cell in run.cells.items() if name != DIAGNOSIS}
    begun = {cell.about["attack"]: cell for cell in cells if cell.about["attack"] not in chosen}
    for name, cell in begun.items():
        yield f"{_name(cell)}: {name} has {sizes[cell]} of {widest} examples and is left out; {_goes_on(cell)}"
    for name, cell in chosen.items():
        if sizes[cell] < widest:
            yield (
                f"{_name(cell)}: {name} has {sizes[cell]} of {widest} examples, so all accuracies of this model are "
                f"over {run.summary.n}; {_goes_on(cell)}"
            )


def _name(cell: Cell) -> str:
    about = cell.about
    return f"{about['model']} on {about['dataset']}, {about['norm']} {about['eps']}"


def _goes_on(cell: Cell) -> str:
    return f"to go on: {cell.run.get('command', 'run it again')}"
