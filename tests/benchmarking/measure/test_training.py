"""What is measured of a training: its log, and how long an epoch takes."""

from pathlib import Path
from typing import Any

import pytest

from robench import api
from robench.benchmarking.measure import epoch_time, training
from robench.benchmarking.measure.epoch_time import Clock
from robench.evaluation.plan import EvaluationOptions, plan_evaluation
from robench.utils.errors import UserError
from tests.helpers import Trained

CHEAP: dict[str, Any] = {"epochs": 1, "limit": 64, "settings": {"holdout": 50, "batch_size": 32}}


@pytest.mark.parametrize(
    ("defense", "settings", "passes"),
    [("standard", {}, 1), ("pgd_at", {"steps": 3}, 4), ("ald_pgd", {"particles": 2, "steps": 2}, 2 * 3 + 1)],
)
def test_an_epoch_is_of_the_whole_training_set(
    defense: str, settings: dict[str, Any], passes: int, tmp_path: Path
) -> None:
    plan = {**CHEAP, "settings": {**CHEAP["settings"], **settings}}
    trained = api.train(defense, out=tmp_path / "m.pt", **plan)
    before = trained.path.read_bytes()
    found = epoch_time.measure(plan_evaluation(trained.path, EvaluationOptions(attacks=["fgsm"])), steps=3)
    assert (found["images"], found["batch_size"]) == (1297 - 50, 32)
    assert found["passes"] == passes
    low, high = found["quartiles"]
    assert 0 < low <= found["seconds"] <= high
    assert trained.path.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.pt", "m.pt.metrics.csv"]


def test_the_clock_leaves_out_the_steps_that_warm_up() -> None:
    clock = Clock(ends=[0.0, 50.0, 51.0, 54.0, 56.0], passes=7)
    assert clock.steps == 5
    assert clock.quartiles() == [1.5, 2.0, 2.5]  # of 1, 3 and 2 seconds


def test_the_log_is_that_of_the_epoch_kept(tmp_path: Path) -> None:
    trained = api.train("adt_exp", out=tmp_path / "m.pt", **{**CHEAP, "epochs": 2})
    found = training.measure(plan_evaluation(trained.path, EvaluationOptions(attacks=["fgsm"])))
    assert found["history"] == trained.card.metrics["history"]
    assert found["kept"] in found["history"]
    assert found["kept"]["entropy"] < 0


def test_a_model_from_elsewhere_has_neither(digits_model: Trained) -> None:
    evaluation = plan_evaluation(digits_model.model, EvaluationOptions(attacks=["fgsm"]))
    for measure in (training.measure, epoch_time.measure):
        with pytest.raises(UserError, match="that robench trained"):
            measure(evaluation)
