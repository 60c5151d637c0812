"""The papers' tables: what is printed, and beside it what runs in the ledger measured."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from robench.data.catalog import DATASETS
from robench.ledger.radius import radius
from robench.ledger.schema import CLEAN
from robench.reports.evaluations import Run, runs
from robench.reports.measured import Measured, Meter
from robench.reports.published import Published, published
from robench.specs.benchmark import Table, TrainedDefense, load_exhibit, trained
from robench.utils.fingerprints import fingerprint


@dataclass(frozen=True)
class Provenance:
    """What was really run for a line of the table; `differs` says in what it is not what the paper ran."""

    arch: str
    schedule: str
    n: int
    seeds: Sequence[int]
    differs: Sequence[str]


@dataclass(frozen=True)
class Block:
    """The runs on one data set within one threat: numbers by line and column, and by line what was run."""

    data: str
    numbers: Mapping[tuple[str, str], Measured]
    provenance: Mapping[str, Provenance]


@dataclass(frozen=True)
class Grid:
    """A table, or its part for one data set. `own` are the runs on the data that the paper used, `others` those on
    other data; `runnable` are the lines that robench trains a defense for."""

    id: str
    title: str
    paper: str
    dataset: str
    threat: str
    rows: Sequence[str]
    columns: Sequence[str]
    published: Mapping[tuple[str, str], Published]
    runnable: frozenset[str]
    own: Block
    others: Sequence[Block]
    command: str
    """what fills its empty cells"""

    def difference(self, row: str, column: str) -> float | None:
        """Measured less published, as a fraction, where both are on the paper's data."""
        printed, found = self.published.get((row, column)), self.own.numbers.get((row, column))
        return found.value - printed.fraction if printed and found else None


def build(id: str, results: Path | str = "results", evaluated: Sequence[Run] | None = None) -> list[Grid]:
    """The table of this id, a part for each data set that the paper prints; torch is not imported. `evaluated`: the
    runs of the results folder, where they have been read already."""
    table: Table = load_exhibit(Table, id)
    meter, evaluated = Meter(table, results), runs(results) if evaluated is None else evaluated
    return [_grid(id, meter, part, evaluated) for part in _by_dataset(published(id))]


def _by_dataset(printed: Iterable[Published]) -> list[list[Published]]:
    parts: dict[str, list[Published]] = defaultdict(list)
    for number in printed:
        parts[number.dataset].append(number)
    return list(parts.values())


def _grid(id: str, meter: Meter, printed: Sequence[Published], evaluated: Sequence[Run]) -> Grid:
    table, first = meter.table, printed[0]
    dataset = first.dataset.partition("-")[0]  # "cifar10-4000" is CIFAR-10 with 4,000 labels
    rows = [row for row in table.rows if any(number.model == row for number in printed)]
    columns = [column for column in table.columns if any(number.attack == column for number in printed)]
    entries = {row: trained(entry) for row in rows if (entry := table.rows[row]) is not None}
    threat = f"{first.norm} {first.eps}"
    own = f"{first.dataset}, {threat}"
    groups: dict[str, list[Run]] = {own: []}
    for run in evaluated:
        groups.setdefault(own if _is_own(run, first) else _data(run), []).append(run)
    blocks = {
        data: _block(data, meter, columns, entries, group, dataset if data == own else None)
        for data, group in groups.items()
    }
    return Grid(
        id,
        table.title,
        table.paper,
        first.dataset,
        threat,
        rows,
        columns,
        {(number.model, number.attack): number for number in printed},
        frozenset(entries),
        blocks.pop(own),
        [block for _, block in sorted(blocks.items()) if block.numbers],
        f"robench bench {id}" + (f" --dataset {dataset}" if dataset != table.dataset else ""),
    )


def _data(run: Run) -> str:
    return f"{run.task}, {run.threat}"


def _is_own(run: Run, printed: Published) -> bool:
    """Whether a run is on the data and within the threat of a printed number."""
    norm, eps = run.cells[CLEAN].key["threat"]
    return run.task == printed.dataset and norm == printed.norm and abs(eps - float(Fraction(printed.eps))) < 1e-9


def _block(
    data: str,
    meter: Meter,
    columns: Sequence[str],
    entries: Mapping[str, TrainedDefense],
    group: Sequence[Run],
    of_paper: str | None,
) -> Block:
    """`of_paper` is the data set where it is the paper's: only there is it said what differs from the paper."""
    numbers: dict[tuple[str, str], Measured] = {}
    provenance: dict[str, Provenance] = {}
    for row, entry in entries.items():
        trainings = _trainings(entry, group, meter, of_paper)
        found = {column: number for column in columns if (number := meter.over_trainings(column, trainings))}
        numbers |= {(row, column): number for column, number in found.items()}
        if found:
            provenance[row] = _provenance(meter.table, trainings, found.values(), of_paper)
    return Block(data, numbers, provenance)


def _trainings(entry: TrainedDefense, group: Sequence[Run], meter: Meter, of_paper: str | None) -> list[Run]:
    """The runs of a line's defense that differ in their seed alone: those most like the paper's, of equals those under
    most of the table's attacks, then the newest."""
    recipes: dict[str, list[Run]] = defaultdict(list)
    for run in group:
        set_as_said = all(run.setting(name) == value for name, value in entry.settings.items())
        if run.about["defense"] == entry.defense and set_as_said:
            recipes[fingerprint({"recipe": run.about["recipe"], "on": run.about["trained_on"]})].append(run)

    def order(found: Sequence[Run]) -> tuple[int, int, str]:
        unlike = len(_differences(meter.table, found[0], of_paper)) if of_paper else 0
        return -unlike, meter.filled(found[0]), found[0].started

    return max(recipes.values(), key=order, default=[])


def _provenance(table: Table, trainings: Sequence[Run], found: Iterable[Measured], of_paper: str | None) -> Provenance:
    run, n = trainings[0], min(number.n for number in found)
    words = [f"{run.setting('epochs')} epochs", f"batch {run.setting('batch_size')}", f"lr {run.setting('lr')}"]
    seeds = sorted({int(each.about["train_seed"] or 0) for each in trainings})
    differs = _differences(table, run, of_paper) if of_paper else []
    papers = DATASETS[of_paper].test_images if of_paper in DATASETS else n
    if n != papers:
        differs.append(f"n {n} (paper: {papers})")
    differs += [each.supersedes for each in trainings if each.superseded]
    return Provenance(run.about["arch"], ", ".join(words), n, seeds, differs)


def _differences(table: Table, run: Run, of_paper: str | None) -> list[str]:
    """In what a training is not the paper's, as far as the table's file tells."""
    papers = {**table.train, **table.protocol, "trained_on": of_paper}
    found = [
        f"{name} {run.setting(name)} (paper: {value})"
        for name, value in papers.items()
        if name != "eps_warmup" and not _same(run.setting(name), value)
    ]
    if trained_for := run.about.get("trained_threat"):
        norm, _, eps = trained_for.partition(" ")
        found += [f"trained for {trained_for}"] if f"{norm} {radius(eps)}" != run.threat else []
    return found + ([f"{run.setting('limit'):,} training images"] if run.setting("limit") else [])


def _same(value: Any, other: Any) -> bool:
    return bool(value == other or (isinstance(value, list) and [float(v) for v in value] == [float(o) for o in other]))
