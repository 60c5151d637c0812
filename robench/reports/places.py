"""Which rows may be ranked together, and how they stand then: what the table, the files and the page all show.

A rank exists among runs that met the same battery on the same examples of a data set within a threat; or, whatever else
they met, the same suite that calls itself a minimum. Runs that met something else stand apart.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from statistics import mean

from robench.reports.evaluations import Run
from robench.utils import registry
from robench.utils.stats import Bounds

ALONE = "no other model met this battery on these examples"
APART = "not comparable with the rows above: another battery, or other examples"


@dataclass(frozen=True)
class Place:
    """Where a run stands: its `rank`, or `why` it has none; `battery`: what it met, on how many examples. `leads`: its
    battery is the one that most work went into, of those on the data set within the threat."""

    run: Run
    battery: str
    leads: bool
    rank: int | None = None
    why: str = ""


def places(evaluated: Iterable[Run]) -> list[Place]:
    """In the order of the leaderboard: by data set and threat, then by battery, the one first that most passes went
    into, and the best worst case first; seeds of a recipe together, below them what has no rank."""
    sections: dict[tuple[str, str], dict[tuple[str, str], list[Run]]] = defaultdict(lambda: defaultdict(list))
    for run in evaluated:
        sections[run.about["dataset"], run.threat][_met(run)].append(run)
    found: list[Place] = []
    for _, of_threat in sorted(sections.items()):
        rivals = sorted(of_threat.values(), key=lambda runs: (-_work(runs), -len(runs), min(run.id for run in runs)))
        written = [_written(runs[0]) for runs in rivals]
        for number, (runs, battery) in enumerate(zip(rivals, written, strict=True)):
            alike = written[:number].count(battery)  # the same names with other settings, or other examples
            found += _ranked(runs, f"{battery} ({alike + 1})" if alike else battery, leads=number == 0)
    return found


def _met(run: Run) -> tuple[str, str]:
    """What runs must share to be ranked together: the battery, and the examples."""
    examples = run.findings.examples
    if suite := _minimum(run):
        return f"{suite} or more", examples
    return str(sorted(run.battery.items())), examples


def _written(run: Run) -> str:
    suite = _minimum(run)
    met = f"{suite} or more" if suite else ", ".join(sorted(run.battery)) or "nothing"
    return f"{met} on {run.summary.n}"


def _minimum(run: Run) -> str | None:
    """The suite, of those that are a minimum, whose attacks the run met."""
    return next((name for name, attacks in _minima().items() if attacks <= set(run.battery)), None)


@cache
def _minima() -> Mapping[str, frozenset[str]]:
    folder = registry.folder("benchmarks") / "suites"
    suites = {
        name: registry.read_yaml(folder / f"{name}.yaml") for name in registry.names("benchmarks", "suites/*.yaml")
    }
    return {name: frozenset(suite["attacks"]) for name, suite in suites.items() if suite.get("minimum")}


def _work(runs: Sequence[Run]) -> int:
    """Passes that went into them."""
    return sum(attack.forwards + attack.backwards for run in runs for attack in run.summary.attacks.values())


def _ranked(runs: Sequence[Run], battery: str, leads: bool) -> Iterator[Place]:
    """Those of one battery on the same examples."""
    alone = not leads and len(runs) == 1
    reasons = {run.id: _unranked(run) or (ALONE if alone else "") for run in runs}
    recipes: dict[str, list[Run]] = defaultdict(list)
    for run in sorted(runs, key=_worst_last):
        if not reasons[run.id]:
            recipes[run.recipe_id].append(run)
    values = {
        id: mean(run.summary.worst_case.value for run in seeds if run.summary.worst_case)
        for id, seeds in recipes.items()
    }
    for id, seeds in sorted(recipes.items(), key=lambda item: -values[item[0]]):
        above = sum(len(recipes[other]) for other, value in values.items() if value > values[id])
        yield from (Place(run, battery, leads, rank=above + 1) for run in seeds)
    unranked = (run for run in runs if reasons[run.id])
    yield from (Place(run, battery, leads, why=reasons[run.id]) for run in sorted(unranked, key=_worst_last))


def _worst_last(run: Run) -> tuple[float, str, str]:
    worst = run.summary.worst_case
    return -(worst.value if worst else -1.0), run.summary.model, run.id


def _unranked(run: Run) -> str:
    """Why a run has no rank whatever the others are; empty where it may have one."""
    summary = run.summary
    if unknown := summary.worst_case_bounds:
        return _unknown(unknown)
    if summary.worst_case is None:
        return "it was not attacked"
    return "a check failed, so the number cannot be trusted" if summary.verdict.reliable is False else ""


def _unknown(bounds: Bounds) -> str:
    ends = f"{100 * bounds.least.value:.1f} to {100 * bounds.most.value:.1f} %"
    return f"attacks ended in errors, so that the worst case is unknown: {ends}"
