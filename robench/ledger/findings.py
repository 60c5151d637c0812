"""What the rows of an evaluation say as a whole, so that nobody who only reads needs the rows themselves."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from robench.ledger.cell import Cell
from robench.ledger.per_example import Array, Tally, shared
from robench.ledger.schema import CLEAN
from robench.ledger.signs import Signs
from robench.ledger.summary import Summary, summarise_tallies
from robench.utils.fingerprints import fingerprint

POINTS = 60
"""of a curve, at most"""


@dataclass(frozen=True)
class Course:
    """How an attack went. `cost`: passes an example, in the mean. `left`: the worst case of this attack and all cheaper
    ones. `curve`: the accuracy after so many steps, from the clean one at 0, where steps were counted."""

    cost: float
    left: float | None
    curve: Sequence[tuple[int, float]]


@dataclass(frozen=True)
class Findings:
    """`examples`: a fingerprint of which ones all the cells share; `courses` by attack, the cheapest first."""

    summary: Summary
    examples: str
    courses: Mapping[str, Course]

    @classmethod
    def of(cls, cells: Mapping[str, Cell], rows: Callable[[], Mapping[str, Tally]]) -> "Findings":
        """From the cells of one model by the name of their attack, the clean one among them, and from all their
        rows."""
        tallies = shared(rows())
        summary = summarise_tallies(cells, tallies)
        examples = fingerprint({"examples": tallies[CLEAN].example.tolist()})
        return cls(summary, examples, _courses(cells, tallies, summary))


def _courses(cells: Mapping[str, Cell], tallies: Mapping[str, Tally], summary: Summary) -> dict[str, Course]:
    attacks = {name: each for name, each in tallies.items() if name != CLEAN}
    costs = {name: int((t.forwards + t.backwards).sum(dtype=np.int64)) / len(t) for name, t in attacks.items()}
    order = sorted(attacks, key=lambda name: (costs[name], name))
    probed = Signs.of(tallies[CLEAN].signs).broken
    left = _left([attacks[name] for name in order], probed) if summary.worst_case else [None] * len(order)
    return {
        name: Course(costs[name], worst, _curve(attacks[name], _steps(cells[name].key["attack"])))
        for name, worst in zip(order, left, strict=True)
    }


def _left(tallies: Sequence[Tally], probed: Array) -> Iterator[float]:
    """The share that stands after each attack and those before it, and after the diagnosis, which broke the examples
    `probed` [N]; where it is known of all at the end."""
    broken = probed
    for each in tallies:
        broken = broken | each.fooled | each.skipped
        yield float((~broken).sum() / len(broken))


def _steps(configured: Any) -> int:
    steps = configured.get("settings", {}).get("steps", 0) if isinstance(configured, dict) else 0
    return steps if isinstance(steps, int) else 0


def _curve(tally: Tally, steps: int) -> list[tuple[int, float]]:
    """(step, accuracy) wherever it falls; nothing of an attack that takes one step, counts none, or skipped some."""
    run = tally.where(tally.finished)
    fell = run.first_step[run.fooled & run.correct]
    if steps < 2 or tally.skipped.any() or not fell.any() or (fell < 0).any():
        return []
    counts = np.bincount(fell, minlength=steps + 1)
    robust = (run.correct.sum() - counts.cumsum()) / len(run)
    at = np.flatnonzero(counts)
    if len(at) > POINTS:
        at = at[np.unique(np.geomspace(1, len(at), POINTS).round().astype(int)) - 1]
    return [
        (0, float(run.correct.mean())),
        *((int(step), float(robust[step])) for step in at),
        (len(counts) - 1, float(robust[-1])),
    ]
