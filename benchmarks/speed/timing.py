"""Times of contestants that take turns, so that what else the machine does meets them all."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import TypeVar

T = TypeVar("T")


def timed(function: Callable[[], T]) -> tuple[T, float]:
    """What a function gives, and the seconds it took."""
    started = time.perf_counter()
    given = function()
    return given, time.perf_counter() - started


def fastest(choices: Sequence[int], run: Callable[[int], object]) -> int:
    """The choice with which `run` takes the least time, of two tries each after a warm-up."""
    run(choices[0])
    return min(choices, key=lambda choice: min(timed(lambda: run(choice))[1] for _ in range(2)))


def in_turn(contestants: Mapping[str, Callable[[int], T]], rounds: int) -> dict[str, list[T]]:
    """What each contestant gives in each round, to which it is called with the round's number; every other round goes
    in the reverse order."""
    given: dict[str, list[T]] = {name: [] for name in contestants}
    for number in range(rounds):
        for name in list(contestants)[:: -1 if number % 2 else 1]:
            given[name].append(contestants[name](number))
    return given


@dataclass(frozen=True)
class Times:
    """Seconds of the rounds."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        return median(self.seconds)

    def over(self, other: "Times") -> float:
        """How many times as long as the other: the median over rounds of the ratio within each."""
        return median(mine / its for mine, its in zip(self.seconds, other.seconds, strict=True))
