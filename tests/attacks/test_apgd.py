"""Auto-PGD against the library's, the paper's schedule, and the order of its targets."""

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from pyautoattack.autopgd_base import APGDAttack, APGDAttack_targeted
from torch import Tensor, nn

from robench.search import Search
from robench.search.classifier import Classifier
from robench.search.judge import Judge
from robench.search.rng import Draws
from robench.threat import ThreatModel
from robench.utils import registry
from tests.helpers import Linear, Trained, correct, run_attack


@pytest.mark.parametrize(
    ("loss", "targets"),
    [("ce", None), ("dlr", None), *(pytest.param("dlr", targets, marks=pytest.mark.slow) for targets in (3, 9))],
)
def test_apgd_is_as_strong_as_the_librarys(loss: str, targets: int | None, digits_model: Trained) -> None:
    x, y = correct(digits_model, 40)
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
    assert 50 < theirs < 175
    assert ours <= theirs + 3


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


class Crossing(nn.Module):
    """Class 0, a class 1 that is second at grey and that no point within 0.2 reaches, and a class 2 that one does."""

    def forward(self, x: Tensor) -> Tensor:
        first, second = (x.flatten(1) - 0.5).unbind(1)
        return torch.stack([torch.zeros_like(first), 0.5 * first - 0.3, 6 * second - 1], 1)


def test_targets_are_those_near_the_best_candidate() -> None:
    apgd = registry.attack_function("apgd")

    def near_the_second(search: Search) -> None:
        search.offer(search.x + torch.tensor([0.0, 0.125]).view(1, 1, 2))
        apgd(search, steps=20, targets=1)

    x, y = torch.full((20, 1, 1, 2), 0.5), torch.zeros(20, dtype=torch.long)
    classifier, threat = Classifier(Crossing()), ThreatModel.of("linf", 0.2)

    def fooled(attack: Callable[[Search], None]) -> int:
        draws = Draws(0, np.arange(20), x.device)
        found = Search(classifier, Judge(classifier, threat), threat, x, y, draws).run(attack)
        return int(found.fooled.sum())

    assert fooled(partial(apgd, steps=20, targets=1)) < 10  # it climbs towards class 1; chance alone starts at class 2
    assert fooled(near_the_second) == 20
