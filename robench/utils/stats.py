"""Intervals and tests for accuracies; counts in, numbers out."""

from math import sqrt
from statistics import NormalDist
from typing import NamedTuple

from robench.utils.errors import UserError


class Interval(NamedTuple):
    value: float
    low: float
    high: float


def wilson(successes: int, n: int, level: float = 0.95) -> Interval:
    """A proportion with its score interval (Wilson 1927)."""
    if not 0 <= successes <= n or n == 0:
        raise UserError(f"expected between 0 and n successes of n > 0 examples, got {successes} of {n}")
    z, share = NormalDist().inv_cdf((1 + level) / 2), successes / n
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    low, high = middle - half, middle + half
    return Interval(share, low if successes else 0.0, high if successes < n else 1.0)  # the ends free of rounding


class Bounds(NamedTuple):
    """Of an accuracy that is not known of all examples: what it is at least, if those were all broken, and at most, if
    they were robust."""

    least: Interval
    most: Interval


def bounds(known: int, unknown: int, n: int, level: float = 0.95) -> Bounds:
    """Where `known` of n examples are robust, and of `unknown` others that is not known."""
    return Bounds(wilson(known, n, level), wilson(known + unknown, n, level))


def mcnemar(only_first: int, only_second: int) -> float:
    """The two-sided exact p-value that two models err equally often, from the examples only one of them gets right."""
    from scipy.stats import binomtest

    if min(only_first, only_second) < 0:
        raise UserError(f"expected counts, got {only_first} and {only_second}")
    discordant = only_first + only_second
    return float(binomtest(only_first, discordant).pvalue) if discordant else 1.0
