"""VAT and ALD's form of it: the direction against the Hessian, the loss against its definition."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robench.models import build
from robench.threat import ThreatModel
from robench.training.defense import Batch, Defense, Step
from robench.training.loop import train
from robench.training.smoothness import Divergence, VirtualAdversary, untracked
from robench.utils import registry
from robench.utils.errors import UserError
from tests.toy import generator, make
from tests.training.test_loop import assert_equal_weights, interrupted, plan

THREAT = ThreatModel.of("l2", 0.7)


class Tiny(nn.Module):
    """Batch norm and no dropout, in float64."""

    def __init__(self, inputs: int = 16, *, norm: bool = True) -> None:
        super().__init__()
        torch.manual_seed(0)
        middle = nn.BatchNorm1d(8) if norm else nn.Identity()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(inputs, 8), middle, nn.Tanh(), nn.Linear(8, 3)).double()
        self.images = 0

    def forward(self, x: Tensor) -> Tensor:
        self.images += len(x)
        return 2 * self.body(x)  # type: ignore[no-any-return]


def images(count: int, side: int = 4) -> Tensor:
    return torch.rand(count, 1, side, side, generator=torch.Generator().manual_seed(7), dtype=torch.float64)


def batch(side: int = 4) -> Batch:
    x = images(10, side)
    return Batch(x[:4], torch.tensor([0, 1, 2, 1]), {"unlabelled": x[4:]})


def stepped(model: nn.Module, threat: ThreatModel = THREAT, epoch: float = 1e9) -> Step:
    return Step({"model": model.train()}, threat, generator(), epoch)


def loss_of(defense: Defense, model: nn.Module, epoch: float = 1e9, side: int = 4) -> tuple[Tensor, Step]:
    step = stepped(model, epoch=epoch)
    return defense.losses(batch(side), step)["model"], step


def softmax_mse(p: Tensor, q: Tensor) -> Tensor:
    return ((p.exp() / p.exp().sum(1, keepdim=True) - q.exp() / q.exp().sum(1, keepdim=True)) ** 2).sum(1) / p.shape[1]


def kl(p: Tensor, q: Tensor) -> Tensor:
    return (p.softmax(1) * (p.log_softmax(1) - q.log_softmax(1))).sum(1)


CHANGES = {"kl": kl, "mse": softmax_mse}


def unit(d: Tensor) -> Tensor:
    length: Tensor = d.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    return d / length


@pytest.mark.parametrize("kind", ["kl", "mse"])
def test_the_power_iteration_ends_in_the_dominant_eigenvector_of_the_hessian(kind: Divergence) -> None:
    model, x = Tiny(norm=False), images(3)
    reference = model(x).detach()

    def cosines(iterations: int) -> list[float]:
        adversary = VirtualAdversary(kind, 1e-5, iterations, 1, "none", "paper")
        directions = (adversary.around(stepped(model), x, reference) - x).flatten(1) / THREAT.eps
        assert torch.allclose(directions.norm(dim=1), torch.ones(3, dtype=torch.float64), atol=1e-9)
        found = []
        for row in range(3):

            def change(r: Tensor, row: int = row) -> Tensor:
                return CHANGES[kind](reference[row : row + 1], model((x[row].flatten() + r).view(1, 1, 4, 4))).sum()

            hessian = torch.autograd.functional.hessian(change, torch.zeros(16, dtype=torch.float64))  # type: ignore[no-untyped-call]
            values, vectors = torch.linalg.eigh(hessian)
            assert values[-1] > 1.05 * values[-2] > 0
            found.append(float((vectors[:, -1] @ directions[row]).abs()))
        return found

    assert min(cosines(300)) > 1 - 1e-6
    assert min(cosines(1)) < 1 - 1e-3


@pytest.mark.parametrize("kind", ["kl", "mse"])
@pytest.mark.parametrize("over", ["both", "unlabelled"])
def test_the_loss_is_its_definition(kind: Divergence, over: str) -> None:
    settings: dict[str, Any] = {"weight": 3, "divergence": kind, "over": over, "particles": 2, "xi": 2, "iterations": 2}
    model = Tiny()
    loss, _ = loss_of(make("vat", **settings), model)

    again, data = Tiny().train(), batch()
    x = torch.cat([data.x, data.more["unlabelled"]])
    logits = again(x)
    running = again.state_dict()["body.2.running_mean"].clone()
    smoothed = x if over == "both" else x[4:]
    reference = logits.detach()[-len(smoothed) :].repeat(2, 1)
    points = smoothed.repeat(2, 1, 1, 1)
    d = unit(torch.rand(points.shape, generator=generator(), dtype=torch.float64) - 0.5)
    for _ in range(2):
        d = d.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(CHANGES[kind](reference, again(points + 2 * d)).sum(), d)
        d = unit(gradient)
    change = CHANGES[kind](reference, again(points + 0.7 * d)).view(2, -1).mean(0)
    term = change[-6:].mean() + (change[:4].mean() if over == "both" else 0)
    expected = F.cross_entropy(logits[:4], data.y) + 3 * term
    assert loss.item() == pytest.approx(expected.item(), rel=1e-9)
    assert torch.equal(model.state_dict()["body.2.running_mean"], running)  # only the clean pass counts
    assert model.images == 10 + len(smoothed) * 2 * (2 + 1)


@pytest.mark.parametrize("kind", ["kl", "mse"])
def test_with_one_particle_and_a_kernel_of_its_own_it_is_vat(kind: Divergence) -> None:
    gradients = []
    for scope in ("none", "example"):
        model = Tiny()
        loss, _ = loss_of(make("vat", kernel_scope=scope, divergence=kind, xi=0.1), model)
        loss.backward()  # type: ignore[no-untyped-call]
        gradients.append([loss.detach(), *(parameter.grad for parameter in model.parameters())])
    assert all(torch.equal(one, other) for one, other in zip(*gradients, strict=True))


def test_ald_vat_with_one_particle_trains_to_the_weights_of_vat(tmp_path: Path) -> None:
    for name, settings in (("vat", {}), ("ald_vat", {"particles": 1}), ("ald_vat", {"particles": 2})):
        train(plan(name, labels=100, **settings), tmp_path / f"{name}-{len(settings) and settings['particles']}.pt")
    assert_equal_weights(tmp_path / "vat-0.pt", tmp_path / "ald_vat-1.pt")
    with pytest.raises(AssertionError):
        assert_equal_weights(tmp_path / "vat-0.pt", tmp_path / "ald_vat-2.pt")


def test_alds_bandwidth_leaves_two_particles_to_themselves() -> None:
    """10^(1-n) is 0.1, and two random unit vectors are about 1.4 apart: the kernel is exp(-100)."""
    losses = {}
    for scope, bandwidth in (("none", "paper"), ("example", "paper"), ("batch", "paper"), ("example", "median")):
        defense = make("vat", particles=2, kernel_scope=scope, bandwidth=bandwidth, xi=0.1)
        loss, step = loss_of(defense, Tiny(784), side=28)
        losses[scope, bandwidth] = loss.item()
        if scope != "none":
            assert (float(step.metrics["kernel"]) < 1e-30) == (bandwidth == "paper")
    assert losses["none", "paper"] == pytest.approx(losses["example", "paper"], rel=1e-9)
    assert losses["none", "paper"] == pytest.approx(losses["batch", "paper"], rel=1e-9)
    assert abs(losses["none", "paper"] / losses["example", "median"] - 1) > 1e-3


def test_the_released_codes_kernel_couples_the_batch_with_one_particle() -> None:
    loss, step = loss_of(make("vat", kernel_scope="batch", xi=0.1), Tiny(784), side=28)
    plain, _ = loss_of(make("vat", xi=0.1), Tiny(784), side=28)
    assert float(step.metrics["kernel"]) == pytest.approx(0.37, abs=0.02)  # exp(-1), at sigma 1
    assert abs(loss.item() / plain.item() - 1) > 1e-3


def test_mixup_mixes_points_and_targets() -> None:
    vat = registry.module("defenses", "vat")
    defense = make("vat", particles=2, mixup=0.5, divergence="mse", weight=2, over="unlabelled")
    loss, _ = loss_of(defense, Tiny())

    again, data, step = Tiny().train(), batch(), stepped(Tiny())
    logits = again(torch.cat([data.x, data.more["unlabelled"]]))
    reference = logits[4:].detach()
    with untracked(again):
        step.players["model"].load_state_dict(again.state_dict())
        x_adv = VirtualAdversary("mse", 10, 1, 2, "none", "paper").around(step, data.more["unlabelled"], reference)
        share, partner = vat._mixture(0.5, 12, step.generator)
        assert sorted(partner.tolist()) == list(range(12))
        mixed = again(share * x_adv + (1 - share) * x_adv[partner])
    targets = reference.repeat(2, 1)
    change = share * softmax_mse(targets, mixed) + (1 - share) * softmax_mse(targets[partner], mixed)
    expected = F.cross_entropy(logits[:4], data.y) + 2 * change.mean()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-9)


def test_shares_of_a_mixture_are_betas() -> None:
    vat = registry.module("defenses", "vat")
    draws, seeded = [], torch.Generator().manual_seed(0)
    for _ in range(2000):
        draws.append(vat._mixture(0.5, 2, seeded)[0])
    shares = torch.tensor(draws)
    assert shares.mean().item() == pytest.approx(0.5, abs=0.03)
    assert shares.var().item() == pytest.approx(0.125, abs=0.01)  # of Beta(1/2, 1/2)


def test_the_weight_rises_over_the_ramp() -> None:
    plain = F.cross_entropy(Tiny().train()(torch.cat([batch().x, batch().more["unlabelled"]]))[:4], batch().y).item()
    terms = [loss_of(make("vat", ramp=30), Tiny(), epoch)[0].item() - plain for epoch in (0, 15, 30, 100)]
    assert terms[2] == terms[3] > 0
    assert terms[0] / terms[3] == pytest.approx(0.006737947, rel=1e-6)  # exp(-5)
    assert terms[1] / terms[3] == pytest.approx(0.286504797, rel=1e-6)  # exp(-5/4)
    assert loss_of(make("vat", ramp=0), Tiny(), 0.0)[0].item() - plain == terms[3]


def test_the_radius_is_in_units_of_the_normalised_input() -> None:
    model = build("lenet", (3, 16, 16), 3, mean=[0.5], std=[0.1, 0.2, 0.4])
    x = torch.rand(2, 3, 16, 16, generator=generator())
    x_adv = VirtualAdversary("kl", 1, 1, 1, "none", "paper").around(stepped(model), x, model(x))
    moved = (x_adv - x) / torch.tensor([0.1, 0.2, 0.4]).view(3, 1, 1)
    assert torch.allclose(moved.flatten(1).norm(dim=1), torch.full((2,), 0.7), atol=1e-5)


@pytest.mark.parametrize(
    ("settings", "threat", "message"),
    [
        ({}, ThreatModel.of("linf", 0.1), "defined for l2, not for linf"),
        ({"xi": 0}, THREAT, "xi above 0"),
        ({"bandwidth": 0}, THREAT, "bandwidth above 0"),
        ({"kernel_scope": "all"}, THREAT, "example"),
    ],
)
def test_what_cannot_be(settings: dict[str, Any], threat: ThreatModel, message: str) -> None:
    with pytest.raises(UserError, match=message):
        make("vat", **settings).losses(batch(), stepped(Tiny(), threat))


def test_an_interrupted_training_ends_as_the_uninterrupted_one(tmp_path: Path) -> None:
    """Three steps an epoch, and as many a pass over the labelled images."""
    planned = plan("ald_vat", labels=100, mixup=0.5, unlabelled_batch=40, average=0.9)
    whole = train(planned, tmp_path / "whole.pt")
    assert interrupted(planned, tmp_path / "cut.pt", 1, 4, 8) == whole
    assert_equal_weights(tmp_path / "whole.pt", tmp_path / "cut.pt")
