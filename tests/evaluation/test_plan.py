"""What a plan takes over from the suite and what from the caller."""

from pathlib import Path

import pytest

from robench.evaluation.plan import EvaluationOptions, plan_evaluation
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
