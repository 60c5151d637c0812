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


@dataclass(frozen=True)
class Duration:
    """How long something may take, with the words that it was given in."""

    seconds: float
    written: str

    @classmethod
    def of(cls, given: "str | float | Duration") -> "Duration":
        """From "20m", "90s", "1h30m", or a number of seconds."""
        if isinstance(given, Duration):
            return given
        if isinstance(given, str):
            return cls(seconds(given), given.strip())
        if isinstance(given, bool) or not 0 < given < inf:
            raise UserError(f"expected a duration above 0 in seconds, got {given!r}")
        return cls(float(given), f"{given:g}s")

    def __str__(self) -> str:
        return self.written


def seconds(written: str) -> float:
    """Of a duration such as "20m", "90s" or "1h30m"."""
    found = re.fullmatch(r"(?:(\d{1,9})h)?(?:(\d{1,9})m)?(?:(\d{1,9})s)?", written.strip())
    total = sum(int(part or 0) * unit for part, unit in zip(found.groups(), (3600, 60, 1), strict=True)) if found else 0
    if total == 0:
        raise UserError(f"expected a duration above 0 such as 20m, 90s or 1h30m, got {written!r}")
    return float(total)
