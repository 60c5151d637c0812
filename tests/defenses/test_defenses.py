"""Each defense's loss against the paper's equation, computed again in the plainest way."""

import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from robench.models.tanh_gaussian import negative_log_density
from robench.threat import ThreatModel
from robench.training.defense import Defense, Step
from robench.training.inner_max import start_points
from robench.utils.errors import UserError
from tests.toy import THREAT, Net, batch, generator, kl, loss_of, make, reference_ascent


def test_pgd_at() -> None:
    loss, _ = loss_of(make("pgd_at", steps=5, clean_weight=0.5))
    model, data = Net(), batch()
    start = start_points("ball", data.x, THREAT, generator())
    x_adv = reference_ascent(
        model, data.x, start, lambda logits: F.cross_entropy(logits, data.y, reduction="none"), 5, 0.025
    )
    clean = F.cross_entropy(model(data.x), data.y)
    expected = F.cross_entropy(model(x_adv), data.y) + 0.5 * clean
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)


def test_trades() -> None:
    loss, _ = loss_of(make("trades", beta=6, steps=5, step_size=0.02))
    model, data = Net(), batch()
    reference = model.eval()(data.x).detach()
    start = start_points("near_normal", data.x, THREAT, generator())
    x_adv = reference_ascent(model, data.x, start, lambda logits: kl(reference, logits), 5, 0.02)
    clean = model(data.x)
    expected = F.cross_entropy(clean, data.y) + 6 * kl(clean, model(x_adv)).mean()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("particles", [1, 2, 4])
@pytest.mark.parametrize("kind", ["ce", "kl"])
def test_ald_objective(kind: str, particles: int) -> None:
    """From the outside: with a kernel that sees nothing the particles are independent restarts, averaged."""
    defense = make(
        "ald", loss=kind, weight=2, particles=particles, steps=3, step_size=0.02, start="ball", bandwidth=1e-6
    )
    loss, _ = loss_of(defense)
    model, data = Net(), batch()
    reference = model.eval()(data.x).detach()
    x, y = data.x.repeat(particles, 1, 1, 1), data.y.repeat(particles)

    def inner(logits: Tensor) -> Tensor:
        if kind == "ce":
            return F.cross_entropy(logits, y, reduction="none")
        return kl(reference.repeat(particles, 1), logits)

    x_adv = reference_ascent(model, x, start_points("ball", x, THREAT, generator()), inner, 3, 0.02)
    clean = model(data.x)
    adversarial = model(x_adv)
    outer = (
        F.cross_entropy(adversarial, y, reduction="none")
        if kind == "ce"
        else kl(clean.repeat(particles, 1), adversarial)
    )
    expected = F.cross_entropy(clean, data.y) + 2 * outer.view(particles, -1).mean(0).mean()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)


PAIRS: dict[str, tuple[Defense, Defense]] = {
    "ald_trades": (
        make("ald", loss="kl", weight=6, particles=1, steps=5, step_size=0.02, start="near_normal"),
        make("trades", beta=6, steps=5, step_size=0.02, start="near_normal"),
    ),
    "ald_pgd": (
        make("ald", loss="ce", weight=1, particles=1, steps=5, step_size=0.02, start="ball"),
        make("pgd_at", clean_weight=1, steps=5, step_size=0.02, start="ball"),
    ),
}


@pytest.mark.parametrize("pair", PAIRS)
def test_with_one_particle_the_step_is_that_of_the_plain_method(pair: str) -> None:
    stepped = []
    for defense in PAIRS[pair]:
        model = Net()
        loss, _ = loss_of(defense, model)
        sgd = torch.optim.SGD(model.parameters(), lr=0.1)
        loss.backward()  # type: ignore[no-untyped-call]
        sgd.step()
        stepped.append(model.state_dict())
    for name, tensor in stepped[0].items():
        assert torch.equal(tensor, stepped[1][name]), name


def test_the_adt_entropy_is_that_of_the_tanh_gaussian() -> None:
    """Against the entropy computed from the density of delta on a grid."""
    eps = 0.3
    for mu, rho in ((0.0, 0.0), (0.7, -1.0), (-1.5, 0.5)):
        mean, raw = torch.tensor([mu], dtype=torch.float64), torch.tensor([rho], dtype=torch.float64)
        noise = torch.randn(400_000, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        estimate = float(negative_log_density(noise, mean, raw, eps).mean())
        sigma = F.softplus(raw)
        edges = torch.linspace(-1, 1, 200_001, dtype=torch.float64)[1:-1] * eps
        u = torch.atanh(edges / eps)
        density = torch.exp(-((u - mean) ** 2) / (2 * sigma**2)) / (sigma * math.sqrt(2 * math.pi))
        density = density / (eps * (1 - (edges / eps) ** 2))
        width = edges[1] - edges[0]
        assert float((density * width).sum()) == pytest.approx(1, abs=1e-3)
        exact = float(-(density * density.clamp(min=1e-300).log() * width).sum())
        assert estimate == pytest.approx(exact, abs=0.01)


@pytest.mark.parametrize(("accumulate", "kind"), [(False, "ce"), (True, "ce"), (False, "trades")])
def test_adt_exp(accumulate: bool, kind: str) -> None:
    settings = {"steps": 3, "samples": 2, "entropy_weight": 0.5, "accumulate": accumulate, "loss": kind, "beta": 3}
    loss, _ = loss_of(make("adt_exp", **settings))
    model, data, draws = Net(), batch(), generator()
    reference = model.eval()(data.x).detach()
    mu, rho = torch.zeros_like(data.x), torch.zeros_like(data.x)
    held = [torch.zeros_like(mu), torch.zeros_like(rho)]
    model.eval()
    for _ in range(3):
        noise = torch.randn((2, *data.x.shape), generator=draws)
        mu.requires_grad_(), rho.requires_grad_()
        objective = torch.zeros(())
        for r in noise:
            sigma = torch.log1p(rho.exp())
            delta = torch.tanh(mu + sigma * r)
            logits = model((data.x + 0.1 * delta).clamp(0, 1))
            risk = F.cross_entropy(logits, data.y, reduction="sum") if kind == "ce" else kl(reference, logits).sum()
            entropy = r**2 / 2 + math.log(2 * math.pi) / 2 + sigma.log() + (1 - delta**2).log() + math.log(0.1)
            objective = objective + (risk + 0.5 * entropy.flatten(1).mean(1).sum()) / 2 / 64
        gradients = torch.autograd.grad(objective, (mu, rho))
        held = [old * accumulate + new for old, new in zip(held, gradients, strict=True)]
        mu, rho = (  # Adam without memory
            (value + 0.3 * slope / (slope.abs() + 1e-8)).detach() for value, slope in zip((mu, rho), held, strict=True)
        )
    last = torch.randn((1, *data.x.shape), generator=draws)[0]
    x_adv = (data.x + 0.1 * torch.tanh(mu + F.softplus(rho) * last)).clamp(0, 1)
    torch.manual_seed(3)
    if kind == "ce":
        expected = F.cross_entropy(model.train()(x_adv), data.y)
    else:
        clean = model.train()(data.x)
        expected = F.cross_entropy(clean, data.y) + 3 * kl(clean, model(x_adv)).mean()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-3)


def test_adt_exp_needs_linf() -> None:
    with pytest.raises(UserError, match="linf"):
        loss_of(make("adt_exp"), threat=ThreatModel.of("l2", 1))


PASSES: Sequence[tuple[str, dict[str, Any], int]] = [
    ("standard", {}, 1),
    ("pgd_at", {"steps": 7}, 7 + 1),
    ("trades", {"steps": 10}, 10 + 3),
    ("ald", {"loss": "ce", "particles": 3, "steps": 4}, 3 * (4 + 1) + 1),
    ("adt_exp", {"steps": 7, "samples": 5}, 7 * 5 + 1),
    ("adt_exp", {"steps": 7, "samples": 5, "loss": "trades"}, 7 * 5 + 3),
]


@pytest.mark.parametrize(("name", "settings", "passes"), PASSES)
def test_passes_a_step_are_the_methods_own(name: str, settings: dict[str, Any], passes: int) -> None:
    model = Net()
    loss_of(make(name, **settings), model)
    assert model.images == passes * len(batch().x)


@pytest.mark.parametrize("name", ["pgd_at", "trades", "ald"])
def test_l2_is_served_too(name: str) -> None:
    loss, _ = loss_of(make(name, step_size="eps/4"), threat=ThreatModel.of("l2", 0.5))
    assert loss.isfinite()


def test_the_particles_stay_in_the_ball_and_the_inner_passes_leave_no_trace() -> None:
    model = Net().train()
    running_mean = model.state_dict()["body.2.running_mean"]
    before = running_mean.clone()
    seen: list[Tensor] = []
    model.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach().clone()))
    make("ald", particles=2, steps=6, step_size=0.05).losses(batch(), Step({"model": model}, THREAT, generator(), 0.0))
    x = batch().x
    for points in seen:
        assert (points - x.repeat(len(points) // len(x), 1, 1, 1)).abs().max() <= 0.1 + 1e-6
    assert model.training
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not torch.equal(running_mean, before)  # the two outer passes count
