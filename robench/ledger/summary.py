"""What an evaluation found, computed from its cells of the ledger and from nothing else."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from robench.ledger import signs
from robench.ledger.cell import Cell
from robench.ledger.evidence import Evidence
from robench.ledger.per_example import Array, Tally, condensed
from robench.ledger.schema import CLEAN, DIAGNOSIS
from robench.ledger.signs import Signs
from robench.ledger.verdict import Verdict, judge_evaluation
from robench.utils.stats import Bounds, Interval, bounds, wilson
from robench.utils.text import cleaned


@dataclass(frozen=True)
class AttackSummary:
    """One attack. `accuracy` is None where some examples ended in an error, and `bounds` are what it may be then, or
    where some were skipped because another attack had broken them. `kills` are of examples correct when clean, `unique`
    those among them that every other attack left, where all were tried."""

    accuracy: Interval | None
    bounds: Bounds | None
    spread: float | None
    """of the accuracy over the draws of a stochastic model"""
    accuracy_final: float | None
    n_run: int
    kills: int
    unique: int | None
    invalid: int
    errors: int
    seconds: float
    forwards: int
    backwards: int
    queries: int
    message: str | None


@dataclass(frozen=True)
class ClassSummary:
    """The examples of one label: their number, the clean accuracy and that of the worst case, as in `Summary`."""

    label: int
    n: int
    clean: Interval
    worst_case: Interval | None
    worst_case_bounds: Bounds | None


@dataclass(frozen=True)
class Probes:
    """What the diagnosis found on the first `probed` examples. `kills`: those its own PGD broke within the threat and
    every attack left; they count in the worst case. `failed`: the error that it ended in."""

    probed: int
    kills: int
    zero: int
    nonfinite: int
    saturated: int
    faces: float | None
    """the share of pixels at 0 and 1 that have no gradient, where just inside the box they have one"""
    failed: str | None


@dataclass(frozen=True)
class Summary:
    """A model against a battery on the first `n` examples of a set."""

    model: str
    dataset: str
    threat: str
    n: int
    mode: str
    clean: Interval
    spread: float | None
    """of the clean accuracy over the draws of a stochastic model"""
    attacks: Mapping[str, AttackSummary]
    worst_case: Interval | None
    """None where that is not known of every example: an attack erred on it and none broke it; or where none was run"""
    worst_case_bounds: Bounds | None
    """what it may be where errors leave it open"""
    classes: Sequence[ClassSummary]
    diagnosis: Probes | None
    verdict: Verdict
    skipped: Mapping[str, str]
    """attacks of the suite that could not be run, with the reason"""
    ledger: Sequence[str]
    """the folders of the cells"""

    @property
    def worst_class(self) -> ClassSummary | None:
        """The class of lowest worst case; none where that is not known of all."""
        known = [(each.worst_case.value, each) for each in self.classes if each.worst_case]
        return min(known, key=lambda pair: pair[0])[1] if len(known) == len(self.classes) else None

    def to_json(self) -> dict[str, Any]:
        """The object that `eval --format json` prints; accuracies are fractions."""
        attacks = {}
        for name, attack in self.attacks.items():
            fields = asdict(attack)
            del fields["accuracy"], fields["bounds"]
            attacks[name] = {**_accuracy(attack.accuracy, attack.bounds), **fields}
        return {
            "model": self.model,
            "dataset": self.dataset,
            "threat": self.threat,
            "n": self.n,
            "mode": self.mode,
            "clean": {**_accuracy(self.clean), "spread": self.spread},
            "attacks": attacks,
            "worst_case": _accuracy(self.worst_case, self.worst_case_bounds),
            "classes": [
                {
                    "label": each.label,
                    "n": each.n,
                    "clean": _accuracy(each.clean),
                    "worst_case": _accuracy(each.worst_case, each.worst_case_bounds),
                }
                for each in self.classes
            ],
            "diagnosis": asdict(self.diagnosis) if self.diagnosis else None,
            "verdict": asdict(self.verdict),
            "skipped": dict(self.skipped),
            "ledger": list(self.ledger),
        }


def summarise(
    cells: Mapping[str, Cell], n: int | None = None, mode: str = "columns", left_out: Mapping[str, str] | None = None
) -> Summary:
    """From the cells of one model by the name of their attack, the clean one among them.

    Every accuracy is over the same examples: those in all cells, of the first `n` where it is given.
    """
    ids = cells[CLEAN].span() if n is None else range(n)
    return summarise_tallies(cells, condensed(cells, ids), mode, left_out)


def summarise_tallies(
    cells: Mapping[str, Cell],
    everything: Mapping[str, Tally],
    mode: str = "columns",
    left_out: Mapping[str, str] | None = None,
) -> Summary:
    """As `summarise`, from what was read of the cells."""
    clean = everything[CLEAN]
    tallies = {name: each for name, each in everything.items() if name != CLEAN}
    unique = _unique_kills(tallies)
    union = _Union.of(tallies, Signs.of(clean.signs)) if tallies else None
    about = cells[CLEAN].about
    found = cells[DIAGNOSIS].found if DIAGNOSIS in cells else None
    return Summary(
        model=about["model"],
        dataset=about["dataset"],
        threat=cells[CLEAN].threat,
        n=clean.n,
        mode=mode,
        clean=wilson(clean.total(~clean.fooled), clean.n),
        spread=_spread(clean),
        attacks={name: _summarise_attack(each, unique.get(name)) for name, each in tallies.items()},
        worst_case=union.accuracy() if union else None,
        worst_case_bounds=union.bounds() if union else None,
        classes=_summarise_classes(clean, union),
        diagnosis=_summarise_diagnosis(found, union.probed_alone if union else 0) if found else None,
        verdict=judge_evaluation(Evidence.of(cells, tallies, clean)),
        skipped=dict(left_out or {}),
        ledger=[str(cell.path) for cell in cells.values()],
    )


def robust_accuracy(tally: Tally) -> Interval | None:
    """The accuracy under one attack; None where some examples ended in an error or were skipped."""
    return wilson(tally.total(~tally.fooled), tally.n) if tally.finished.all() else None


def worst_case(tallies: Mapping[str, Tally]) -> Interval | None:
    """The accuracy under all these attacks, over the same examples; None where that is not known of all of them."""
    unprobed = np.zeros_like(next(iter(tallies.values())).signs)
    return _Union.of(tallies, Signs.of(unprobed)).accuracy()


def _summarise_diagnosis(found: Mapping[str, Any], kills: int) -> Probes:
    counts = {sign: signs.count(found, sign) for sign in signs.GRADIENT}
    return Probes(found["probed"], kills, **counts, faces=found.get("faces"), failed=found.get("failed"))


def _spread(tally: Tally) -> float | None:
    """The standard deviation of the accuracy over draws of a stochastic model, if each example's are independent."""
    drawn = ~np.isnan(tally.variance)
    return float(tally.variance[drawn].sum(dtype=np.float64) ** 0.5 / tally.n) if drawn.any() else None


def _unique_kills(tallies: Mapping[str, Tally]) -> dict[str, int]:
    """How many examples each attack broke that no other did; nothing where one skipped some, or erred on some."""
    if any(not each.finished.all() for each in tallies.values()):
        return {}
    breakers = np.sum([each.fooled for each in tallies.values()], axis=0)
    return {name: each.total(each.fooled & (breakers == 1) & each.correct) for name, each in tallies.items()}


def _summarise_attack(tally: Tally, unique: int | None) -> AttackSummary:
    run = tally.where(tally.finished)
    errors, skipped = tally.total(tally.status == "error"), bool(tally.skipped.any())
    whole = not (errors or skipped)
    return AttackSummary(
        accuracy=robust_accuracy(tally),
        bounds=bounds(run.total(~run.fooled), errors, tally.n) if errors and not skipped else None,
        spread=_spread(run) if whole else None,
        accuracy_final=run.total(run.read & ~run.final) / run.total(run.read) if whole and run.read.any() else None,
        n_run=run.n,
        kills=run.total(run.fooled & run.correct),
        unique=unique,
        invalid=tally.total(tally.status == "invalid"),
        errors=errors,
        seconds=float(tally.seconds.sum(dtype=np.float64)),
        forwards=int(tally.forwards.sum(dtype=np.int64)),
        backwards=int(tally.backwards.sum(dtype=np.int64)),
        queries=int(tally.queries.sum(dtype=np.int64)),
        message=next((cleaned(message) for message in tally.message if message is not None), None),
    )


@dataclass(frozen=True)
class _Union:
    """What a battery and the diagnosis did to each example together [N]: whether that is known, whether it is broken,
    whether by the diagnosis alone, and how many such examples there are."""

    known: Array
    broken: Array
    alone: Array
    count: Array

    @classmethod
    def of(cls, tallies: Mapping[str, Tally], signs: Signs) -> "_Union":
        by_attacks = np.any([each.fooled | each.skipped for each in tallies.values()], axis=0)
        erred = np.any([each.status == "error" for each in tallies.values()], axis=0)
        # an example that one attack broke is broken, whatever became of the others
        broken = by_attacks | signs.broken
        return cls(broken | ~erred, broken, signs.broken & ~by_attacks, next(iter(tallies.values())).count)

    @property
    def probed_alone(self) -> int:
        """How many the diagnosis broke and no attack did."""
        return int(self.count[self.alone].sum())

    def accuracy(self, where: Array | slice = slice(None)) -> Interval | None:
        """Per example over the battery (eq. 12 of Adversarial Distributional Training), where that is known of all."""
        found = self._bounds(where)
        return found.least if found.least == found.most else None

    def bounds(self, where: Array | slice = slice(None)) -> Bounds | None:
        """Of the accuracy, where it is not known."""
        found = self._bounds(where)
        return found if found.least != found.most else None

    def _bounds(self, where: Array | slice) -> Bounds:
        known, broken, count = self.known[where], self.broken[where], self.count[where]
        return bounds(int(count[known & ~broken].sum()), int(count[~known].sum()), int(count.sum()))


def _summarise_classes(clean: Tally, union: _Union | None) -> list[ClassSummary]:
    found = []
    for label in np.unique(clean.label):
        of_label = clean.label == label
        n, right = clean.total(of_label), clean.total(of_label & ~clean.fooled)
        worst, open_to = (union.accuracy(of_label), union.bounds(of_label)) if union else (None, None)
        found.append(ClassSummary(int(label), n, wilson(right, n), worst, open_to))
    return found


def _accuracy(interval: Interval | None, unknown: Bounds | None = None) -> dict[str, float | None]:
    """An unknown accuracy is null, and `low` and `high` are the outer ends of the intervals of its bounds."""
    if interval is not None:
        return {"accuracy": interval.value, "low": interval.low, "high": interval.high}
    if unknown is None:
        return {"accuracy": None, "low": None, "high": None}
    least, most = unknown
    ends = {"low": least.low, "high": most.high, "at_least": least.value, "at_most": most.value}
    return {"accuracy": None, **ends}
