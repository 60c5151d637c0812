import math
from itertools import product

import pytest

from robench.utils.errors import UserError
from robench.utils.stats import mcnemar, wilson


@pytest.mark.parametrize("n", [1, 7, 100, 1000])
def test_the_wilson_interval_solves_its_equation(n: int) -> None:
    """Its ends are the proportions p at which the observed one lies 1.96 standard errors of p away."""
    z = 1.959963984540054
    for successes in {0, 1, n // 3, n - 1, n}:
        value, low, high = wilson(successes, n)
        assert value == successes / n
        assert 0 <= low <= value <= high <= 1
        for end in (low, high):
            if 0 < end < 1 and not (end == low and successes == 0) and not (end == high and successes == n):
                assert abs(value - end) == pytest.approx(z * math.sqrt(end * (1 - end) / n), rel=1e-6)


@pytest.mark.parametrize(("successes", "n"), [(0, 0), (-1, 5), (6, 5)])
def test_an_accuracy_of_nothing_is_refused(successes: int, n: int) -> None:
    with pytest.raises(UserError):
        wilson(successes, n)


@pytest.mark.parametrize(("first", "second"), [(0, 0), (3, 3), (1, 6), (8, 0)])
def test_mcnemar_counts_the_coins_that_fall_at_least_as_unevenly(first: int, second: int) -> None:
    n = first + second
    gap = abs(first - second)
    outcomes = [abs(n - 2 * sum(coins)) >= gap for coins in product((0, 1), repeat=n)]
    assert mcnemar(first, second) == pytest.approx(sum(outcomes) / len(outcomes))
