"""Two models on the same examples: which is right where the other is wrong, and whether that could be chance."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from robench.ledger.per_example import tally
from robench.ledger.schema import CLEAN, DIAGNOSIS
from robench.reports.evaluations import Run, runs
from robench.utils.errors import UserError, unknown
from robench.utils.fingerprints import fingerprint
from robench.utils.stats import Interval, mcnemar, wilson

WORST_CASE = "worst case"


@dataclass(frozen=True)
class Contest:
    """Two accuracies on the same `n` examples; McNemar's exact `p` that the models err equally often. On `unknown`
    others an attack ended in an error."""

    name: str
    n: int
    first: Interval
    second: Interval
    only_first: int
    only_second: int
    p: float
    unknown: int = 0


@dataclass(frozen=True)
class Comparison:
    """`first` and `second` on a data set within a threat: clean, under each attack that both met, and in the worst
    case over those."""

    first: str
    second: str
    dataset: str
    threat: str
    contests: Sequence[Contest]


def compare(first: str, second: str, results: Path | str = "results") -> list[Comparison]:
    """One comparison for each data set and threat on which both models, called by their names in the ledger or the
    beginnings of them, were evaluated."""
    evaluated = runs(results)
    names = [_named(each, evaluated) for each in (first, second)]
    if names[0] == names[1]:
        raise UserError(f"expected two models, got {names[0]} twice")
    oldest_first = evaluated[::-1]  # the newest of a name counts
    by_name = [{_where(run): run for run in oldest_first if run.about["model"] == name} for name in names]
    shared = [where for where in by_name[0] if where in by_name[1]]
    if not shared:
        raise UserError(f"{names[0]} and {names[1]} were never evaluated on the same data set within the same threat")
    return [_comparison(by_name[0][where], by_name[1][where]) for where in shared]


def _named(written: str, evaluated: Sequence[Run]) -> str:
    """The model of this name, or the only one whose name begins so."""
    names = sorted({str(run.about["model"]) for run in evaluated})
    matching = [name for name in names if name.startswith(written)]
    if written in names or len(matching) == 1:
        return written if written in names else matching[0]
    if matching:
        raise UserError(
            f"{written!r} is the beginning of {len(matching)} models ({', '.join(matching)}); give more of it"
        )
    raise unknown("model", written, names)


def _where(run: Run) -> str:
    """The images and the threat themselves, whatever they are called."""
    key = run.cells[CLEAN].key
    return fingerprint({"dataset": key["dataset"], "threat": run.threat})


def _comparison(first: Run, second: Run) -> Comparison:
    shared = [name for name in first.cells if name in second.cells and name not in (CLEAN, DIAGNOSIS)]
    whole = [name for name in shared if not (first.tallies[name].skipped.any() or second.tallies[name].skipped.any())]
    contests = [_contest(name, first, second, [name]) for name in (CLEAN, *whole)]
    if len(shared) > 1:
        contests.append(_contest(WORST_CASE, first, second, shared))
    found = [contest for contest in contests if contest]
    names, about = (first.about["model"], second.about["model"]), first.about
    return Comparison(*names, about["dataset"], first.threat, found)


def _contest(name: str, first: Run, second: Run, attacks: Sequence[str]) -> Contest | None:
    """Over the examples on which it is known of both whether they stand against all the attacks."""
    cells = {f"{side} {attack}": run.cells[attack] for side, run in enumerate((first, second)) for attack in attacks}
    tallies = tally(cells)
    sides = [[tallies[f"{side} {attack}"] for attack in attacks] for side in (0, 1)]
    broken = [np.any([each.fooled for each in side], axis=0) for side in sides]
    known = [fell | np.all([each.known for each in side], axis=0) for fell, side in zip(broken, sides, strict=True)]
    both = known[0] & known[1]
    a, b = ~broken[0][both], ~broken[1][both]
    n, only_first, only_second = len(a), int((a & ~b).sum()), int((b & ~a).sum())
    if n == 0:
        return None
    p = mcnemar(only_first, only_second)
    accuracies, unknown = (wilson(int(a.sum()), n), wilson(int(b.sum()), n)), int((~both).sum())
    return Contest(name, n, *accuracies, only_first, only_second, p, unknown)
