"""What runs in the ledger measured of one cell of a paper's table."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import mean, stdev

from robench.ledger.cell import Cell
from robench.ledger.measurements import Measurements
from robench.ledger.per_example import Tally, shared
from robench.ledger.schema import CLEAN
from robench.ledger.summary import robust_accuracy, worst_case
from robench.reports.evaluations import Run, evaluation_id
from robench.specs.benchmark import Table
from robench.utils.stats import Interval, wilson

WORST_CASE = "worst_case"
ATTACKED = "attacked_accuracy"


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
class Meter:
    """Reads a table's cells off the ledger and the measurements of a results folder."""

    table: Table
    results: Path | str

    def over_trainings(self, column: str, trainings: Sequence[Run]) -> Measured | None:
        """Of the runs that differ in their seed alone."""
        found = [number for run in trainings if (number := self._of(self.table.columns[column], run))]
        if not found:
            return None
        accuracies = [each for number in found for each in number.accuracies]
        marks = dict.fromkeys(mark for number in found for mark in number.marks)
        return Measured(accuracies, min(number.n for number in found), list(marks))

    def filled(self, run: Run) -> int:
        """How many of the table's columns a run fills."""
        return sum(_name(attack, run) is not None for attack in self.table.columns.values())

    def _of(self, attack: str, run: Run) -> Measured | None:
        """Of one training under one attack, over all the examples that it was run on."""
        if counts := self._attacked.get(run.id, {}).get(attack):
            right, n = counts
            return Measured([wilson(right, n)], n, ["static protocol, whatever the clean prediction"])
        if attack == CLEAN:
            clean = run.whole[CLEAN]
            return Measured([wilson(clean.total(~clean.fooled), clean.n)], clean.n)
        if attack == WORST_CASE:
            return self._worst_case(run)
        name = _name(attack, run)
        if name is None:
            return None
        tally = _attacks(run, [name])[name]
        accuracy = robust_accuracy(tally)
        return Measured([accuracy], tally.n, self._protocol([run.cells[name]])) if accuracy else None

    def _worst_case(self, run: Run) -> Measured | None:
        """Over the table's attacks, with a mark for those that were not run; nothing where that is most of them."""
        names = {attack: name for attack in self.table.battery if (name := _name(attack, run))}
        if not names or 2 * len(names) < len(self.table.battery):
            return None
        tallies = _attacks(run, names.values())
        lacking = [attack for attack in self.table.battery if attack not in names]
        marks = [f"worst case without {', '.join(lacking)}"] if lacking else []
        marks += self._protocol(run.cells[name] for name in names.values())
        accuracy = worst_case(tallies)
        return Measured([accuracy], next(iter(tallies.values())).n, marks) if accuracy else None

    def _protocol(self, cells: Iterable[Cell]) -> list[str]:
        """Where the paper attacks statically and counts all attacked images: how these attacks went instead."""
        static = [cell.about.get("protocol") == "static" for cell in cells]
        if ATTACKED in self.table.measure:
            return [f"{'static' if all(static) else 'adaptive'} protocol, of images right when clean"]
        return ["static protocol"] if any(static) else []

    @cached_property
    def _attacked(self) -> dict[str, dict[str, tuple[int, int]]]:
        """By the id of a run, under each attack: how many attacked images were classified correctly, of how many; of
        several the most, the newest. For the tables that count so."""
        found: dict[str, dict[str, tuple[int, int]]] = defaultdict(dict)
        if ATTACKED in self.table.measure:
            for measurement in Measurements(self.results).of_kind(ATTACKED):
                known = found[evaluation_id(measurement.key)]
                for attack, (right, n) in measurement.found["attacks"].items():
                    if attack not in known or n > known[attack][1]:
                        known[attack] = (right, n)
        return found


def _attacks(run: Run, names: Iterable[str]) -> dict[str, Tally]:
    """Of these attacks of a run, over the examples that they and the clean images share."""
    found = shared({name: run.whole[name] for name in (CLEAN, *names)})
    del found[CLEAN]
    return found


def _name(attack: str, run: Run) -> str | None:
    """What a run calls a column's attack, such as pgd-20, or "transfer-fgsm from standard": from a source so
    trained."""
    name, transferred, source = attack.partition(" from ")
    if not transferred:
        return name if name in run.cells else None
    of_attack = (called for called in run.cells if called.partition(" from ")[0] == name)
    return next((called for called in of_attack if run.cells[called].about.get("source_defenses") == [source]), None)
