"""The papers' tables: what is printed, and beside it what runs in the ledger measured."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from robench.benchmark import Table, TrainedDefense, load_exhibit, trained
from robench.fingerprints import fingerprint
from robench.ledger import CLEAN, Cell
from robench.measurements import Measurements
from robench.published import Published, published
from robench.runs import Run, runs
from robench.stats import Interval, wilson
from robench.summary import summarise

WORST_CASE = "worst_case"


@dataclass(frozen=True)
class Measured:
    """An accuracy, as a fraction, over `n` examples and its trainings: Wilson's interval of one, the mean of several
    with the standard deviation over them. `marks` say where it is not what the column says."""

    accuracies: Sequence[Interval]
    n: int
    marks: Sequence[str] = ()

    @property
    def value(self) -> float:
        return mean(each.value for each in self.accuracies)

    @property
    def interval(self) -> Interval | None:
        return self.accuracies[0] if len(self.accuracies) == 1 else None

    @property
    def spread(self) -> float | None:
        return stdev(each.value for each in self.accuracies) if len(self.accuracies) > 1 else None


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


def build(id: str, results: Path | str = "results") -> list[Grid]:
    """The table of this id, a part for each data set that the paper prints; torch is not imported."""
    table: Table = load_exhibit(Table, id)
    printed = published(id)
    evaluated = runs(results)
    attacked = _attacked_accuracies(table, results)
    return [_grid(id, table, part, evaluated, attacked) for part in _by_dataset(printed)]


def _by_dataset(printed: Iterable[Published]) -> list[list[Published]]:
    parts: dict[str, list[Published]] = defaultdict(list)
    for number in printed:
        parts[number.dataset].append(number)
    return list(parts.values())


def _grid(
    id: str,
    table: Table,
    printed: Sequence[Published],
    evaluated: Sequence[Run],
    attacked: Mapping[str, Mapping[str, tuple[int, int]]],
) -> Grid:
    first = printed[0]
    rows = [row for row in table.rows if any(number.model == row for number in printed)]
    columns = [column for column in table.columns if any(number.attack == column for number in printed)]
    entries = {row: trained(entry) for row in rows if (entry := table.rows[row]) is not None}
    groups: dict[str, list[Run]] = defaultdict(list)
    for run in evaluated:
        groups[_data(run)].append(run)
    own = f"{first.dataset}, {first.norm} {first.eps}"
    blocks = {own: Block(own, {}, {})}
    for data, group in groups.items():
        ours = group[0].dataset == first.dataset and _same_ball(group[0], first)
        blocks[own if ours else data] = _block(own if ours else data, table, columns, entries, group, attacked, ours)
    return Grid(
        id,
        table.title,
        table.paper,
        first.dataset,
        f"{first.norm} {first.eps}",
        rows,
        columns,
        {(number.model, number.attack): number for number in printed},
        frozenset(entries),
        blocks.pop(own),
        [block for _, block in sorted(blocks.items()) if block.numbers],
        f"robench bench {id}" + (f" --dataset {first.dataset}" if first.dataset != table.dataset else ""),
    )


def _data(run: Run) -> str:
    return f"{run.dataset}, {run.about['norm']} {run.about['eps']}"


def _same_ball(run: Run, printed: Published) -> bool:
    norm, eps = run.cells[CLEAN].key["threat"]
    return bool(norm == printed.norm and abs(eps - float(Fraction(printed.eps))) < 1e-9)


def _block(
    data: str,
    table: Table,
    columns: Sequence[str],
    entries: Mapping[str, TrainedDefense],
    group: Sequence[Run],
    attacked: Mapping[str, Mapping[str, tuple[int, int]]],
    ours: bool,
) -> Block:
    numbers: dict[tuple[str, str], Measured] = {}
    provenance: dict[str, Provenance] = {}
    for row, entry in entries.items():
        trainings = _trainings(entry, group, table)
        found = {column: _measured(table, column, trainings, attacked) for column in columns}
        numbers |= {(row, column): number for column, number in found.items() if number}
        if any(found.values()):
            provenance[row] = _provenance(table, trainings, ours)
    return Block(data, numbers, provenance)


def _trainings(entry: TrainedDefense, group: Sequence[Run], table: Table) -> list[Run]:
    """The runs of a line's defense that differ in their seed alone: those under most of the table's attacks, then the
    newest."""
    recipes: dict[str, list[Run]] = defaultdict(list)
    for run in group:
        set_as_said = all(run.setting(name) == value for name, value in entry.settings.items())
        if run.about["defense"] == entry.defense and set_as_said:
            recipes[fingerprint(run.about["recipe"])].append(run)

    def attacks(trainings: Sequence[Run]) -> int:
        return sum(_cell(column, trainings[0]) is not None for column in table.columns.values())

    return max(recipes.values(), key=lambda found: (attacks(found), found[0].started), default=[])


def _cell(attack: str, run: Run) -> Cell | None:
    """The cell of a column's attack, such as pgd-20, or "transfer-fgsm from standard": from a source so trained."""
    name, transferred, source = attack.partition(" from ")
    if not transferred:
        return run.cells.get(name)
    of_attack = (cell for called, cell in run.cells.items() if called.partition(" from ")[0] == name)
    return next((cell for cell in of_attack if cell.about.get("source_defenses") == [source]), None)


def _measured(
    table: Table, column: str, trainings: Sequence[Run], attacked: Mapping[str, Mapping[str, tuple[int, int]]]
) -> Measured | None:
    attack = table.columns[column]
    found = [number for run in trainings if (number := _accuracy(table, attack, run, attacked))]
    if not found:
        return None
    return Measured([each for number in found for each in number.accuracies], min(n.n for n in found), found[0].marks)


def _accuracy(
    table: Table, attack: str, run: Run, attacked: Mapping[str, Mapping[str, tuple[int, int]]]
) -> Measured | None:
    """Of one training under one attack, over all the examples that it was run on."""
    if counts := attacked.get(run.about["model"], {}).get(attack):
        return Measured([wilson(*counts)], counts[1], ["after the attack, whatever the clean prediction"])
    clean = run.cells[CLEAN]
    if attack == CLEAN:
        summary = summarise({CLEAN: clean})
        return Measured([summary.clean], summary.n)
    if attack == WORST_CASE:
        return _worst_case(table, run)
    cell = _cell(attack, run)
    if cell is None:
        return None
    summary = summarise({CLEAN: clean, "attack": cell})
    accuracy = summary.attacks["attack"].accuracy
    return Measured([accuracy], summary.n, _protocol(cell)) if accuracy else None


def _worst_case(table: Table, run: Run) -> Measured | None:
    """Over the table's attacks, with a mark for those that were not run; nothing where that is most of them."""
    cells = {name: cell for name in table.battery if (cell := _cell(name, run))}
    if 2 * len(cells) < len(table.battery):
        return None
    summary = summarise({CLEAN: run.cells[CLEAN], **cells})
    lacking = [name for name in table.battery if name not in cells]
    marks = [f"worst case without {', '.join(lacking)}"] if lacking else []
    return Measured([summary.worst_case], summary.n, marks) if summary.worst_case else None


def _protocol(cell: Cell) -> list[str]:
    return ["static protocol"] if cell.about.get("protocol") == "static" else []


def _attacked_accuracies(table: Table, results: Path | str) -> dict[str, dict[str, tuple[int, int]]]:
    """Of each model, by its name, under each attack: how many attacked images were classified correctly, of how
    many; for the tables that count so."""
    if "attacked_accuracy" not in table.measure:
        return {}
    found: dict[str, dict[str, tuple[int, int]]] = {}
    for measurement in reversed(Measurements(results).of_kind("attacked_accuracy")):  # the newest counts
        counts = {name: (int(right), int(n)) for name, (right, n) in measurement.found["attacks"].items()}
        found[measurement.about["model"]] = counts
    return found


def _provenance(table: Table, trainings: Sequence[Run], ours: bool) -> Provenance:
    run = trainings[0]
    limit = (run.about["recipe"] or {}).get("limit")
    used = {"arch": run.about["arch"], "epochs": run.setting("epochs"), "n": _most(run)}
    differs = [
        f"{name} {value} (paper: {table.protocol[name]})" for name, value in used.items() if _unlike(table, name, value)
    ]
    differs += [f"{limit:,} training images"] if limit else []
    words = [f"{used['epochs']} epochs", f"batch {run.setting('batch_size')}", f"lr {run.setting('lr')}"]
    seeds = sorted({int(each.about["train_seed"] or 0) for each in trainings})
    return Provenance(used["arch"], ", ".join(words), used["n"], seeds, differs if ours else [])


def _unlike(table: Table, name: str, value: Any) -> bool:
    return name in table.protocol and table.protocol[name] != value


def _most(run: Run) -> int:
    """Examples that its widest cell has."""
    return max(cell.size() for cell in run.cells.values())
