"""Evaluations of the digits model, and what tells whether two ledgers hold the same."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from robench.evaluation.evaluation import Evaluation
from robench.evaluation.plan import EvaluationOptions, plan_evaluation
from robench.ledger.store import Ledger
from robench.ledger.summary import Summary
from tests.helpers import Trained


def frames(results: Path) -> dict[str, pd.DataFrame]:
    """Every cell's rows by its attack's name, without the time they took."""
    return {cell.about["attack"]: cell.rows().drop(columns="seconds") for cell in Ledger(results).cells()}


def assert_equal_ledgers(first: Path, second: Path) -> None:
    a, b = frames(first), frames(second)
    assert a.keys() == b.keys()
    for name in a:
        pd.testing.assert_frame_equal(a[name], b[name], check_exact=True)
    assert documents(first) == documents(second)


def documents(results: Path) -> list[Any]:
    """What was found in cells without rows."""
    return [cell.found for cell in Ledger(results).cells() if cell.found]


def planned(trained: Trained, attacks: Sequence[str] = ("fgsm", "pgd-10"), **options: Any) -> Evaluation:
    return plan_evaluation(
        trained.model, EvaluationOptions(**{"attacks": attacks, "eps": 0.08, "batch_size": 4, "n": 64, **options})
    )


def content(summary: Summary) -> Any:
    """What it says, without times and places; spreads to seven digits, as the order of adding may change the last."""
    document = summary.to_json()
    for block in (document["clean"], *document["attacks"].values()):
        block.pop("seconds", None)
        if block["spread"] is not None:
            block["spread"] = round(block["spread"], 7)
    del document["ledger"]
    return document
