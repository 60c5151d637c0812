"""Auto-PGD against the library's, the paper's schedule, and the order of its targets."""

import pytest
import torch
from pyautoattack.autopgd_base import APGDAttack, APGDAttack_targeted
from torch import Tensor

from robench.threat import ThreatModel
from robench.utils import registry
from tests.helpers import Linear, Trained, correct, run_attack


@pytest.mark.parametrize(
    ("loss", "targets"), [("ce", None), ("dlr", None), pytest.param("dlr", 9, marks=pytest.mark.slow), ("dlr", 3)]
)
def test_apgd_is_as_strong_as_the_librarys(loss: str, targets: int | None, digits_model: Trained) -> None:
    x, y = correct(digits_model, 80)
    eps, ours, theirs = 0.08, 0, 0
    for seed in range(5):
        if targets:
            library = APGDAttack_targeted(
                digits_model.model, n_iter=40, eps=eps, seed=seed, n_target_classes=targets, device="cpu"
            )
        else:
            library = APGDAttack(digits_model.model, n_iter=40, eps=eps, seed=seed, loss=loss, device="cpu")
        with torch.random.fork_rng():
            x_adv = library.perturb(x.clone(), y)
        theirs += int((digits_model.model(x_adv).argmax(1) == y).sum())
        name = f"apgd:steps=40,targets={targets}" if targets else f"apgd:steps=40,loss={loss}"
        ours += int((~run_attack(name, digits_model.model, x, y, ThreatModel.of("linf", eps), seed=seed).fooled).sum())
    assert 100 < theirs < 350
    assert ours <= theirs + 5


def test_apgd_halves_its_step_where_the_paper_does() -> None:
    spans = registry.module("attacks", "apgd")._spans
    ends = list(spans(100))
    assert ends[:5] == [22, 41, 57, 70, 80]
    assert spans(100)[41] == 19
    assert max(ends) >= 98
    assert all(span > 0 for steps in range(1, 30) for span in spans(steps).values())


def third_in_line() -> tuple[Linear, Tensor, Tensor]:
    """A linear model at whose x, of class 0, only the class with the third highest other logit is within 0.4."""
    weight = torch.zeros(4, 16)
    weight[1, 8] = weight[2, 9] = 0.1
    weight[3, :8] = 4.0
    model = Linear(weight, torch.tensor([10.0, 9.0, 8.0, 0.0]) - 0.5 * weight.sum(1))
    return model, torch.full((1, 1, 4, 4), 0.5), torch.zeros(1, dtype=torch.int64)


@pytest.mark.parametrize(("settings", "falls"), [("1", False), ("2", False), ("3", True), ("1,restarts=3", True)])
def test_targets_are_tried_in_the_order_of_their_logits(settings: str, falls: bool) -> None:
    model, x, y = third_in_line()
    outcome = run_attack(f"apgd:steps=9,targets={settings}", model, x, y, ThreatModel.of("linf", 0.4))
    assert outcome.fooled.all() == falls
