"""What an evaluation found, computed from its cells of the ledger and from nothing else."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from robench.ledger import CLEAN, DIAGNOSIS, Cell
from robench.stats import Interval, wilson
from robench.tally import Array, Tally, condensed, tally
from robench.verdict import Evidence, Verdict, judge_evaluation


@dataclass(frozen=True)
class AttackSummary:
    """One attack. `accuracy` is over the examples that did not end in an error; it is None where all did that are
    correct when clean, or where some were skipped because another attack had broken them. `kills` are of examples
    correct when clean, `unique` those among them that every other attack left, where all were tried."""

    accuracy: Interval | None
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
    """The examples of one label: their number, the clean accuracy and that of the worst case."""

    label: int
    n: int
    clean: Interval
    worst_case: Interval | None


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
    """over the examples that an attack broke or that every attack finished"""
    classes: Sequence[ClassSummary]
    verdict: Verdict
    skipped: Mapping[str, str]
    """attacks of the suite that could not be run, with the reason"""
    ledger: Sequence[str]
    """the folders of the cells"""

    @property
    def worst_class(self) -> ClassSummary | None:
        """The class of lowest worst case."""
        known = [(each.worst_case.value, each) for each in self.classes if each.worst_case]
        return min(known, key=lambda pair: pair[0])[1] if known else None

    def to_json(self) -> dict[str, Any]:
        """The object that `eval --format json` prints; accuracies are fractions."""
        attacks = {}
        for name, attack in self.attacks.items():
            fields = asdict(attack)
            fields.pop("accuracy")
            attacks[name] = {**_accuracy(attack.accuracy), **fields}
        return {
            "model": self.model,
            "dataset": self.dataset,
            "threat": self.threat,
            "n": self.n,
            "mode": self.mode,
            "clean": {**_accuracy(self.clean), "spread": self.spread},
            "attacks": attacks,
            "worst_case": _accuracy(self.worst_case),
            "classes": [
                {"label": e.label, "n": e.n, "clean": _accuracy(e.clean), "worst_case": _accuracy(e.worst_case)}
                for e in self.classes
            ],
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
    counted = _with_rows(cells)
    ids = counted[CLEAN].span() if n is None else range(n)
    return summarise_tallies(cells, condensed(counted, ids), mode, left_out)


def tallies_of(cells: Mapping[str, Cell]) -> dict[str, Tally]:
    """Of the clean images and of each attack."""
    return tally(_with_rows(cells))


def _with_rows(cells: Mapping[str, Cell]) -> dict[str, Cell]:
    return {name: cell for name, cell in cells.items() if name != DIAGNOSIS}


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
    union = _Union.of(tallies) if tallies else None
    about = cells[CLEAN].about
    return Summary(
        model=about["model"],
        dataset=about["dataset"],
        threat=f"{about['norm']} {about['eps']}",
        n=clean.n,
        mode=mode,
        clean=wilson(clean.total(~clean.fooled), clean.n),
        spread=_spread(clean),
        attacks={name: _summarise_attack(each, unique.get(name)) for name, each in tallies.items()},
        worst_case=union.accuracy() if union else None,
        classes=_summarise_classes(clean, union),
        verdict=judge_evaluation(_evidence(cells, tallies)),
        skipped=dict(left_out or {}),
        ledger=[str(cell.path) for cell in cells.values()],
    )


def _evidence(cells: Mapping[str, Cell], tallies: Mapping[str, Tally]) -> Evidence:
    about = {name: cells[name].about for name in tallies}
    of_model = cells[CLEAN].about
    return Evidence(
        tallies=tallies,
        access={name: about[name].get("access") or "gradients" for name in tallies},
        settings={name: cells[name].key["attack"] for name in tallies},
        classes=of_model["classes"],
        static=any(about[name].get("protocol") == "static" for name in tallies),
        draws=min((about[name]["draws"] for name in tallies if about[name].get("draws")), default=None),
        mixes=bool(of_model.get("mixes")),
        unseeded=bool(of_model.get("unseeded")),
        diagnosis=cells[DIAGNOSIS].found if DIAGNOSIS in cells else None,
    )


def _spread(tally: Tally) -> float | None:
    """The standard deviation of the accuracy over draws of a stochastic model, if each example's are independent."""
    drawn = ~np.isnan(tally.variance)
    return float(tally.variance[drawn].sum(dtype=np.float64) ** 0.5 / tally.n) if drawn.any() else None


def _unique_kills(tallies: Mapping[str, Tally]) -> dict[str, int]:
    """How many examples each attack broke that no other did; nothing where one was spared some."""
    if any(each.skipped.any() for each in tallies.values()):
        return {}
    breakers = np.sum([each.fooled for each in tallies.values()], axis=0)
    return {name: each.total(each.fooled & (breakers == 1) & each.correct) for name, each in tallies.items()}


def _summarise_attack(tally: Tally, unique: int | None) -> AttackSummary:
    run = tally.where(tally.finished)
    mistakes = ~tally.correct
    whole = (run.n > tally.total(mistakes) or bool(mistakes.all())) and not tally.skipped.any()
    return AttackSummary(
        accuracy=wilson(run.total(~run.fooled), run.n) if whole else None,
        spread=_spread(run) if whole else None,
        accuracy_final=run.total(run.read & ~run.final) / run.total(run.read) if whole and run.read.any() else None,
        n_run=run.n,
        kills=run.total(run.fooled & run.correct),
        unique=unique,
        invalid=tally.total(tally.status == "invalid"),
        errors=tally.total(tally.status == "error"),
        seconds=float(tally.seconds.sum(dtype=np.float64)),
        forwards=int(tally.forwards.sum(dtype=np.int64)),
        backwards=int(tally.backwards.sum(dtype=np.int64)),
        queries=int(tally.queries.sum(dtype=np.int64)),
        message=next((message for message in tally.message if message is not None), None),
    )


@dataclass(frozen=True)
class _Union:
    """What a battery did to each example together [N]: whether that is known, whether it fell, whether it was right
    when clean, and how many such examples there are."""

    known: Array
    broken: Array
    tried: Array
    count: Array

    @classmethod
    def of(cls, tallies: Mapping[str, Tally]) -> "_Union":
        broken = np.any([each.fooled | each.skipped for each in tallies.values()], axis=0)
        erred = np.any([each.status == "error" for each in tallies.values()], axis=0)
        # an example that one attack broke is broken, whatever became of the others
        one = next(iter(tallies.values()))
        return cls(broken | ~erred, broken, one.correct, one.count)

    def accuracy(self, where: Array | slice = slice(None)) -> Interval | None:
        """Per example over the battery (eq. 12 of Adversarial Distributional Training), where that is known."""
        known, broken, tried, count = self.known[where], self.broken[where], self.tried[where], self.count[where]
        if tried.any() and not (known & tried).any():  # all that is known are the model's own mistakes
            return None
        return wilson(int(count[known & ~broken].sum()), int(count[known].sum()))


def _summarise_classes(clean: Tally, union: _Union | None) -> list[ClassSummary]:
    found = []
    for label in np.unique(clean.label):
        of_label = clean.label == label
        n, right = clean.total(of_label), clean.total(of_label & ~clean.fooled)
        worst = union.accuracy(of_label) if union else None
        found.append(ClassSummary(int(label), n, wilson(right, n), worst))
    return found


def _accuracy(interval: Interval | None) -> dict[str, float | None]:
    if interval is None:
        return {"accuracy": None, "low": None, "high": None}
    return {"accuracy": interval.value, "low": interval.low, "high": interval.high}
