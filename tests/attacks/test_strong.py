"""The suite `strong` and what it is made of: closed forms, the library's Auto-PGD, and themselves in other batches."""

from pathlib import Path

import numpy as np
import pytest
import torch

from robench.evaluation.plan import EvaluationOptions, plan_evaluation
from robench.evaluation.run import evaluate, run
from robench.ledger.per_example import tally
from robench.ledger.store import Ledger
from robench.losses import margin
from robench.threat import ThreatModel
from tests.helpers import Trained, correct, equidistant, hadamard_case, linear_case, run_attack

IN_TURN = "in_turn:first=fgsm,then=squares"
CLIMBING = ["apgd:steps=20", "apgd:steps=20,loss=margin", "apgd:steps=20,targets=3", "multi_targeted"]
ALL = [*CLIMBING, "squares:queries=800", IN_TURN, "apgd-squares"]


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("name", CLIMBING)
def test_gradients_reach_the_bound_of_a_linear_model_and_not_beyond(name: str, norm: str) -> None:
    """Of ten classes where each is aimed at; up an untargeted loss the nearest class need not be found."""
    aimed = "targets=" in name or name == "multi_targeted"
    model, x, _ = hadamard_case(39) if aimed else linear_case(2, examples=23)
    x, y, eps = equidistant(model, x, norm)
    assert run_attack(name, model, x, y, ThreatModel.of(norm, 1.02 * eps)).fooled.all()
    assert not run_attack(name, model, x, y, ThreatModel.of(norm, 0.99 * eps)).fooled.any()


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_what_is_claimed_survives_independent_scoring(name: str, norm: str, digits_model: Trained) -> None:
    x, y = correct(digits_model, 40)
    eps = 0.1 if norm == "linf" else 0.6
    outcome = run_attack(name, digits_model.model, x, y, ThreatModel.of(norm, eps))
    difference = (outcome.kept.double() - x.double()).flatten(1)
    distance = difference.abs().amax(1) if norm == "linf" else difference.norm(dim=1)
    assert distance.max() <= eps * (1 + 1e-6) + 1e-6
    assert outcome.kept.min() >= 0
    assert outcome.kept.max() <= 1
    logits = digits_model.model(outcome.kept)
    assert torch.equal(logits.argmax(1) != y, outcome.fooled)
    assert torch.allclose(margin(logits, y), outcome.margin, atol=1e-4)
    assert 5 < int(outcome.fooled.sum()) < 40
    assert not outcome.invalid.any()


@pytest.mark.parametrize("name", ALL)
def test_batches_and_order_change_nothing(name: str, digits_model: Trained) -> None:
    x, y = correct(digits_model, 24)
    threat = ThreatModel.of("linf", 0.08)
    whole = run_attack(name, digits_model.model, x, y, threat)
    assert 0 < int(whole.fooled.sum()) < 24
    order = np.random.default_rng(1).permutation(24)
    for ids in (order[:1], order[1:8], order[8:]):
        part = run_attack(name, digits_model.model, x[ids], y[ids], threat, ids=ids.tolist(), batch_size=7)
        assert torch.equal(part.fooled, whole.fooled[ids])


@pytest.mark.parametrize("name", ALL[:-2])
def test_seeds_change_the_search(name: str, digits_model: Trained) -> None:
    x, y = correct(digits_model, 6)
    first, second = (
        run_attack(name, digits_model.model, x, y, ThreatModel.of("linf", 0.02), seed=seed).kept for seed in (0, 1)
    )
    assert not torch.equal(first, second)


def test_strong_runs_on_survivors_whatever_the_batches(digits_model: Trained, tmp_path: Path) -> None:
    planned = plan_evaluation(
        digits_model.model, EvaluationOptions(suite="strong", dataset="digits", eps=0.1, n=24, batch_size=8)
    )
    summary = run(planned, tmp_path / "a")
    first, second, third = summary.attacks.values()
    right = round(24 * summary.clean.value)
    assert first.n_run == 24
    assert 24 > second.n_run >= third.n_run
    kills = sum(each.kills for each in (first, second, third)) + summary.diagnosis.kills  # type: ignore[union-attr]
    assert kills == right - round(24 * summary.worst_case.value)  # type: ignore[union-attr]
    other = plan_evaluation(
        digits_model.model, EvaluationOptions(suite="strong", dataset="digits", eps=0.1, n=24, batch_size=24)
    )
    again, apart = (
        tally(evaluate(each, Ledger(tmp_path / folder), {})) for each, folder in ((planned, "a"), (other, "b"))
    )
    for name, each in again.items():
        assert np.array_equal(each.fooled, apart[name].fooled)
        assert np.array_equal(each.status, apart[name].status)
