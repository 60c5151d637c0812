"""Intervals and tests for accuracies; counts in, numbers out."""

from typing import NamedTuple

from robench.errors import UserError


class Interval(NamedTuple):
    value: float
    low: float
    high: float


def wilson(successes: int, n: int, level: float = 0.95) -> Interval:
    """A proportion with its Wilson score interval."""
    from scipy.stats import binomtest

    if not 0 <= successes <= n or n == 0:
        raise UserError(f"expected between 0 and n successes of n > 0 examples, got {successes} of {n}")
    interval = binomtest(successes, n).proportion_ci(level, method="wilson")
    return Interval(successes / n, float(interval.low), float(interval.high))


def mcnemar(only_first: int, only_second: int) -> float:
    """The two-sided exact p-value that two models err equally often, from the examples only one of them gets right."""
    from scipy.stats import binomtest

    if min(only_first, only_second) < 0:
        raise UserError(f"expected counts, got {only_first} and {only_second}")
    discordant = only_first + only_second
    return float(binomtest(only_first, discordant).pvalue) if discordant else 1.0
