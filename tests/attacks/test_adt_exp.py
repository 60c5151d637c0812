"""The distribution that the attack learns is the one that the defense's own code learns from the same noise."""

import numpy as np
import pytest
import torch
from torch import Tensor

import robench
from robench.losses import cross_entropy
from robench.models.tanh_gaussian import negative_log_density, perturbed
from robench.search.catalog import attack
from robench.search.classifier import Classifier
from robench.search.judge import Judge
from robench.search.rng import Draws
from robench.search.search import Search
from robench.threat import ThreatModel
from robench.utils.errors import UserError
from tests.helpers import Trained, run_attack


def test_each_step_follows_the_gradient_of_the_defenses_objective(digits_model: Trained) -> None:
    x, y = digits_model.split.floats(slice(6)), digits_model.split.labels[:6]
    eps, threat = 0.02, ThreatModel.of("linf", 0.02)
    mu, rho = (torch.zeros_like(x, requires_grad=True) for _ in range(2))
    adam = torch.optim.Adam([mu, rho], lr=0.3, betas=(0.0, 0.0), maximize=True)
    streams = Draws(0, np.arange(6), x.device)
    expected: list[Tensor] = []
    for step in range(4):
        noise = streams.normal("noise", (3, 1, 8, 8), step).transpose(0, 1)
        points = perturbed(x, noise, mu, rho, eps)
        expected.append(points.detach())
        risk = cross_entropy(digits_model.model(points.flatten(0, 1)), y.repeat(3)).sum() / 3
        entropy = negative_log_density(noise, mu, rho, eps).flatten(2).mean(2).mean(0).sum()
        adam.zero_grad()
        ((risk + 0.05 * entropy) / 64).backward()  # type: ignore[no-untyped-call]
        adam.step()

    seen: list[Tensor] = []

    class Watched(Classifier):
        def _pass(self, x: Tensor) -> Tensor:
            seen.append(x.detach().clone())
            return super()._pass(x)

    classifier = Watched(digits_model.model)
    search = Search(classifier, Judge(classifier, threat), threat, x, y, streams, drop=False)
    search.run(attack("adt_exp:steps=4,samples=3,entropy_weight=0.05"))
    asked = [points.view(6, 3, 1, 8, 8).transpose(0, 1) for points in seen if len(points) == 18]
    assert len(asked) == 4
    for ours, theirs in zip(asked, expected, strict=True):
        assert torch.allclose(ours, theirs, atol=1e-5)


def test_it_breaks_what_pgd_breaks_but_for_a_few(digits_model: Trained) -> None:
    x, y = digits_model.split.floats(slice(60)), digits_model.split.labels[:60]
    threat = ThreatModel.of("linf", 0.1)
    by_pgd, by_adt = (run_attack(name, digits_model.model, x, y, threat) for name in ("pgd-20", "adt_exp"))
    assert 15 < int(by_pgd.fooled.sum()) < 60
    assert int(by_adt.fooled.sum()) >= 0.8 * int(by_pgd.fooled.sum())
    standing = ~by_adt.fooled
    assert set(by_adt.backwards[standing].tolist()) == {200}
    assert set(by_adt.forwards[standing].tolist()) == {210}


def test_it_needs_linf(digits_model: Trained) -> None:
    x, y = digits_model.split.floats(slice(2)), digits_model.split.labels[:2]
    with pytest.raises(UserError, match="linf"):
        robench.attack("adt_exp")(digits_model.model, x, y, norm="l2", eps=1)
