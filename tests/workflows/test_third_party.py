"""Evaluations of models that nobody here trained, beside what is known of them."""

from pathlib import Path
from typing import Any

import pytest

import robench
from robench.ledger.summary import Summary
from robench.utils.threads import torch_threads
from tests import third_party
from tests.third_party import KNOWN, SHARED

pytestmark = pytest.mark.skipif(not (SHARED / "models").is_dir(), reason="the models are not beside the checkout")


def evaluated(name: str, results: Path, **options: Any) -> Summary:
    known = KNOWN[name]
    where: dict[str, Any] = {
        "dataset": known.dataset,
        "data_root": SHARED / "data",
        "eps": known.eps,
        "results": results,
    }
    return robench.evaluate(getattr(third_party, name)(), **where, **options)


def check(summary: Summary) -> None:
    """No attack failed, and nothing makes the number unreliable."""
    assert {name: each.message for name, each in summary.attacks.items() if each.errors} == {}
    assert summary.worst_case is not None
    assert summary.verdict.reliable is not False, summary.verdict.reasons


@pytest.mark.parametrize("name", KNOWN)
def test_strong_runs_without_an_error(name: str, tmp_path: Path) -> None:
    check(evaluated(name, tmp_path, suite="strong", n=6))


@pytest.mark.slow
@pytest.mark.parametrize("name", KNOWN)
@pytest.mark.parametrize("precision", ["auto", "float32", "bfloat16"])
@pytest.mark.parametrize("count", [1, 2])
def test_strong_reaches_what_is_known_and_breaks_nothing_certified(
    name: str, precision: str, count: int, tmp_path: Path
) -> None:
    known = KNOWN[name]
    with torch_threads(count):
        summary = evaluated(name, tmp_path, suite="strong", n=known.n, precision=precision)
    check(summary)
    survivors = round(known.n * summary.worst_case.value)  # type: ignore[union-attr]
    assert known.certified <= survivors <= (known.n if known.survive is None else known.survive)


@pytest.mark.slow
@pytest.mark.parametrize("name", KNOWN)
@pytest.mark.parametrize("battery", [{"suite": "quick"}, {"attacks": ["square"]}, {"attacks": ["autoattack"]}])
def test_other_batteries_run_without_an_error(name: str, battery: dict[str, Any], tmp_path: Path) -> None:
    for precision in ("auto", "float32", "bfloat16"):
        for count in (1, 2):
            with torch_threads(count):
                check(evaluated(name, tmp_path / f"{precision}{count}", n=20, precision=precision, **battery))
