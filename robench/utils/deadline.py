"""Work that ends in time: a moment after which nothing is started, and the words in which people give it."""

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from math import inf

from robench.utils.containment import Stop
from robench.utils.errors import UserError

RESERVE = 20.0
"""Seconds of a budget kept for a last state and the tables, or a tenth of it where that is less."""


class OutOfTime(Stop):
    """The time is over. It is no Exception, so that no handler of failing attacks catches it."""


@dataclass(frozen=True)
class Deadline:
    """A moment of `clock`, in seconds; by default none."""

    at: float = inf
    clock: Callable[[], float] = time.monotonic

    @classmethod
    def within(cls, budget: str, clock: Callable[[], float] = time.monotonic) -> "Deadline":
        """From now, so that all is over when the budget ("20m", "90s", "1h30m") is."""
        total = seconds(budget)
        return cls(clock() + total - min(RESERVE, total / 10), clock)

    @property
    def left(self) -> float:
        return self.at - self.clock()

    @property
    def passed(self) -> bool:
        return self.left <= 0

    def check(self) -> None:
        """Raises `OutOfTime` once it has passed."""
        if self.passed:
            raise OutOfTime


def seconds(written: str) -> float:
    """Of a duration such as "20m", "90s" or "1h30m"."""
    found = re.fullmatch(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?", written.strip())
    total = sum(int(part or 0) * unit for part, unit in zip(found.groups(), (3600, 60, 1), strict=True)) if found else 0
    if total == 0:
        raise UserError(f"expected a duration above 0 such as 20m, 90s or 1h30m, got {written!r}")
    return float(total)
