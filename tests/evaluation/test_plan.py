"""What a plan takes over from the suite and what from the caller."""

from pathlib import Path

import pytest

from robench.evaluation.estimate import estimate
from robench.evaluation.plan import EvaluationOptions, plan_evaluation
from robench.evaluation.run import evaluate
from robench.ledger.store import Ledger
from robench.specs.suite import suite
from robench.utils.errors import UserError
from tests.helpers import Trained


def test_a_suites_mode_holds_unless_another_is_asked_for(digits_model: Trained, tmp_path: Path) -> None:
    assert suite("strong").mode == "worst-case"
    assert suite("quick").mode == "columns"

    def planned(**options: object) -> str:
        return plan_evaluation(digits_model.model, EvaluationOptions(eps=0.1, n=8, **options)).mode  # type: ignore[arg-type]

    assert planned(suite="strong") == "worst-case"
    assert planned(suite="strong", mode="columns") == "columns"
    assert planned(suite="quick") == "columns"
    assert planned(attacks=["fgsm"]) == "columns"


def test_only_the_mode_may_be_left_to_the_suite() -> None:
    assert EvaluationOptions(mode=None).mode is None
    for name in ("protocol", "precision"):
        with pytest.raises(UserError, match=f"unknown {name} 'None'"):
            EvaluationOptions(**{name: None})  # type: ignore[arg-type]


def test_what_is_too_dear_to_count_is_said_and_run_last(digits_model: Trained, tmp_path: Path) -> None:
    attacks = ["rays:queries=9999999", "pgd-10:restarts=999999", "fgsm"]
    options = EvaluationOptions(eps=0.9, n=4, attacks=attacks, mode="worst-case")
    planned, ledger = plan_evaluation(digits_model.model, options), Ledger(tmp_path)
    costs = {cost.name: cost for cost in estimate(planned, ledger, seconds=3.0)}
    assert [name for name, cost in costs.items() if not cost.whole] == attacks[:2]
    assert (costs["fgsm"].forwards, costs["fgsm"].backwards) == (8, 4)
    order = list(evaluate(planned, ledger, {}))
    assert [name for name in order if name in attacks] == ["fgsm", *attacks[:2]]


def test_an_attacks_own_work_is_in_its_forecast(digits_model: Trained, tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(
        "import time\nfrom robench.search import Search, sees\n\n@sees('labels')\ndef slow(search: Search) -> None:\n"
        "    for _ in search.steps(5):\n        time.sleep(0.01)\n        search.query(search.x)\n"
    )
    options = EvaluationOptions(eps=0.1, n=4, attacks=[str(tmp_path / "slow.py")])
    _, cost = estimate(plan_evaluation(digits_model.model, options), Ledger(tmp_path))
    assert cost.whole
    assert cost.seconds > 0.05
