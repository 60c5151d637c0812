"""The papers' baselines, each loss against its equation in the plainest PyTorch."""

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.optimize import linprog
from torch import Tensor, nn

from robench.models import build
from robench.models.network import Network
from robench.training.defense import Step
from robench.training.inner_max import start_points
from robench.utils import registry
from robench.utils.errors import UserError
from tests.toy import THREAT, Net, batch, generator, kl, loss_of, make, reference_ascent


def cross_entropies(y: Tensor) -> Any:
    return lambda logits: F.cross_entropy(logits, y, reduction="none")


def chosen(extreme: Any, logits: Tensor, y: Tensor) -> Tensor:
    """For each example the wrong class of least or largest logit."""
    rows = zip(logits.tolist(), y.tolist(), strict=True)
    return torch.tensor([extreme((c for c in range(3) if c != label), key=row.__getitem__) for row, label in rows])


def test_fgsm_at_steps_towards_the_least_likely_class() -> None:
    loss, _ = loss_of(make("fgsm_at"))
    model, data = Net(), batch()
    model.eval()
    with torch.no_grad():
        logits = model(data.x)
    target = chosen(min, logits, data.y)
    x_adv = reference_ascent(model, data.x, data.x, lambda z: -F.cross_entropy(z, target, reduction="none"), 1, 0.1)
    assert loss.item() == pytest.approx(F.cross_entropy(model(x_adv), data.y).item(), rel=1e-6)


def test_a_random_target_is_another_class_and_any_of_them() -> None:
    defense = make("fgsm_at", target="random")
    data = batch(300)
    step = Step({"model": Net()}, THREAT, generator(), 0.0)
    target = defense._target(data, step)  # type: ignore[attr-defined]
    assert not (target == data.y).any()
    assert {(int(y), int(t)) for y, t in zip(data.y, target, strict=True)} == {
        (y, t) for y in range(3) for t in range(3) if y != t
    }


def test_alp() -> None:
    loss, _ = loss_of(make("alp", weight=0.5, steps=4))
    model, data = Net(), batch()
    start = start_points("ball", data.x, THREAT, generator())
    x_adv = reference_ascent(model, data.x, start, cross_entropies(data.y), 4, 0.025)
    adversarial, clean = model(x_adv), model(data.x)
    pairing = ((adversarial - clean) ** 2).mean()
    expected = F.cross_entropy(adversarial, data.y) + F.cross_entropy(clean, data.y) + 0.5 * pairing
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)


def test_mart() -> None:
    loss, _ = loss_of(make("mart", beta=5, steps=4))
    model, data = Net(), batch()
    start = start_points("near_normal", data.x, THREAT, generator())
    x_adv = reference_ascent(model, data.x, start, cross_entropies(data.y), 4, 0.025)
    clean, adversarial = model(data.x), model(x_adv)
    expected = torch.zeros(())
    for row, y in enumerate(data.y.tolist()):
        p, q = adversarial[row].softmax(0), clean[row].softmax(0)
        runner_up = max(float(p[c]) for c in range(3) if c != y)
        divergence = kl(clean[row : row + 1], adversarial[row : row + 1])[0]
        expected = expected - p[y].log() - np.log(1.0001 - runner_up) + 5 * divergence * (1 - q[y])
    assert loss.item() == pytest.approx(expected.item() / len(data.y), rel=1e-5)


def test_bilateral_labels_are_the_papers() -> None:
    logits = torch.tensor([[2.0, 0.5, -1.0, 0.0]])
    perturbed = registry.module("defenses", "bilateral").perturbed_labels(logits, torch.tensor([0]), 0.5)
    v = -logits[0].softmax(0).log()
    shares = [0.0] + [float(v[k] - min(v[1:]) + 0.01) for k in (1, 2, 3)]
    expected = [0.5] + [0.5 * share / sum(shares) for share in shares[1:]]
    assert perturbed[0].tolist() == pytest.approx(expected, rel=1e-5)
    assert float(perturbed.sum()) == pytest.approx(1)


def test_bilateral() -> None:
    loss, _ = loss_of(make("bilateral", label_eps=0.5))
    model, data = Net(), batch()
    model.eval()
    with torch.no_grad():
        logits = model(data.x)
    confusing = chosen(max, logits, data.y)
    start = start_points("ball", data.x, THREAT, generator())
    x_adv = reference_ascent(model, data.x, start, lambda z: -F.cross_entropy(z, confusing, reduction="none"), 1, 0.1)
    labels = registry.module("defenses", "bilateral").perturbed_labels(model.eval()(x_adv).detach(), data.y, 0.5)
    torch.manual_seed(3)
    expected = -(labels * model.train()(x_adv).log_softmax(1)).sum(1).mean()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)


def test_sinkhorn_reaches_the_linear_programs_optimum() -> None:
    cost = torch.rand(6, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    rows = np.kron(np.eye(6), np.ones(6))
    columns = np.kron(np.ones(6), np.eye(6))
    exact = linprog(cost.numpy().ravel(), A_eq=np.vstack([rows, columns]), b_eq=np.full(12, 1 / 6)).fun
    transport = registry.module("defenses", "feature_scatter").transport
    assert float(transport(cost, 0.001, 20_000, 1e-9)) == pytest.approx(exact, rel=0.01)
    assert float(transport(cost, 0.01, 100, 0.1)) == pytest.approx(exact, rel=0.1)  # as it is used


def test_feature_scatter() -> None:
    loss, _ = loss_of(make("feature_scatter", smoothing=0.4, rounds=50, tolerance=0.0))
    model, data = Net(), batch()
    start = start_points("ball", data.x, THREAT, generator()).requires_grad_()
    model.eval()
    clean, moved = model(data.x).detach(), model(start)
    cost = 1 - F.cosine_similarity(moved[:, None], clean[None], dim=2)
    kernel = torch.exp(-cost.double() / 0.01)
    a, b = torch.full((6,), 1 / 6, dtype=torch.float64), torch.ones(6, dtype=torch.float64)
    for _ in range(50):  # Sinkhorn in its scaling form
        scale = a / (kernel @ b)
        b = a / (kernel.T @ scale)
    distance = (scale[:, None] * kernel * b[None] * cost).sum()
    (gradient,) = torch.autograd.grad(distance, start)
    x_adv = (start.detach() + 0.1 * gradient.sign()).clamp(data.x - 0.1, data.x + 0.1).clamp(0, 1)
    torch.manual_seed(3)
    target = torch.full((6, 3), 0.2).scatter(1, data.y[:, None], 0.6)
    expected = -(target * model.train()(x_adv).log_softmax(1)).sum(1).mean()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-4)


def test_the_triplet_loss_takes_the_hardest_negative_and_another_of_the_class() -> None:
    triplet = registry.module("defenses", "tla").triplet_loss
    clean = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    anchors = torch.randn(5, 4, generator=torch.Generator().manual_seed(1))
    y = torch.tensor([0, 0, 1, 1, 2])

    def distance(i: int, j: int) -> float:
        return 1 - abs(float(F.cosine_similarity(anchors[i], clean[j], dim=0)))

    positives = {0: 1, 1: 0, 2: 3, 3: 2, 4: 4}  # the last has no other of its class
    expected = 0.0
    for i in range(5):
        nearest = min(distance(i, j) for j in range(5) if y[j] != y[i])
        expected += max(0.0, distance(i, positives[i]) - nearest + 0.03) / 5
    assert float(triplet(anchors, clean, y, 0.03, generator())) == pytest.approx(expected, rel=1e-5)


class Features(Network):
    """A tiny network that shows its features."""

    smallest = 1

    def __init__(self) -> None:
        super().__init__((1, 4, 4), 3)
        torch.manual_seed(0)
        self.convolution, self.layer = nn.Conv2d(1, 4, 3), nn.Linear(16, 3)

    def feature_map(self, x: Tensor) -> Tensor:
        return self.convolution(x).tanh()  # type: ignore[no-any-return]

    def pool(self, feature_map: Tensor) -> Tensor:
        return feature_map.flatten(1)

    def head(self, features: Tensor) -> Tensor:
        return self.layer(features)  # type: ignore[no-any-return]


def test_tla() -> None:
    loss, step = loss_of(make("tla", weight=2, norm_weight=0.5, steps=4), Features())
    model, data, draws = Features(), batch(), generator()
    start = start_points("ball", data.x, THREAT, draws)
    x_adv = reference_ascent(model, data.x, start, cross_entropies(data.y), 4, 0.025)
    anchors, clean = model.features(x_adv), model.features(data.x)
    triplet = registry.module("defenses", "tla").triplet_loss(anchors, clean, data.y, 0.03, draws)
    norms = torch.cat([anchors, clean]).norm(dim=1).mean()
    expected = F.cross_entropy(model(x_adv), data.y) + 2 * triplet + 0.5 * norms
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    assert step.metrics["triplet"].item() == pytest.approx(triplet.item(), rel=1e-5)


@pytest.mark.parametrize("layer", ["map", "pooled"])
def test_lat(layer: str) -> None:
    loss, _ = loss_of(make("lat", layer=layer, latent_weight=0.3, latent_eps=0.5, latent_steps=3, steps=4), Features())
    model, data = Features(), batch()
    start = start_points("ball", data.x, THREAT, generator())
    x_adv = reference_ascent(model, data.x, start, cross_entropies(data.y), 4, 0.025)
    latent = model.feature_map(data.x) if layer == "map" else model.features(data.x)

    def above(values: Tensor) -> Tensor:
        return model.head(model.pool(values) if layer == "map" else values)

    found = []
    for row, y in zip(latent.detach(), data.y, strict=True):
        radius = 0.5 * row.abs().mean()
        moved = row.clone()
        for _ in range(3):
            moved.requires_grad_()
            (gradient,) = torch.autograd.grad(F.cross_entropy(above(moved[None]), y[None]), moved)
            moved = (moved.detach() + radius / 4 * gradient.sign()).clamp(row - radius, row + radius)
        found.append(moved - row)
    risk = F.cross_entropy(above(latent + torch.stack(found)), data.y)
    expected = 0.3 * risk + 0.7 * F.cross_entropy(model(x_adv), data.y)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("name", ["tla", "lat"])
def test_features_are_asked_of_networks_that_show_them(name: str) -> None:
    with pytest.raises(UserError, match="features are needed"):
        loss_of(make(name))


def test_awp_takes_the_gradient_where_the_weights_were_moved() -> None:
    gamma = 0.05
    defense = make("awp", gamma=gamma, wraps="pgd_at:steps=3")
    model, data = Net(), batch()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    step = Step({"model": model.train()}, THREAT, generator(), 0.0)
    torch.manual_seed(3)
    with defense.around_update(data, step):
        inside = {name: weight.detach().clone() for name, weight in model.named_parameters()}
        loss = defense.losses(data, step)["model"]
        gradients = torch.autograd.grad(loss, list(model.parameters()))
    for name, weight in model.named_parameters():
        torch.testing.assert_close(weight.detach(), before[name])  # undone
        moved = float((inside[name] - before[name]).norm())
        assert moved == pytest.approx(gamma * float(before[name].norm()) if weight.dim() > 1 else 0.0, rel=1e-3)

    reference = Net().train()
    start = start_points("ball", data.x, THREAT, generator())
    x_adv = reference_ascent(reference, data.x, start, cross_entropies(data.y), 3, 0.025)
    plain = F.cross_entropy(reference(x_adv), data.y)
    weights = dict(reference.named_parameters())
    slopes = dict(zip(weights, torch.autograd.grad(plain, list(weights.values())), strict=True))
    with torch.no_grad():
        for name, weight in reference.named_parameters():
            if weight.dim() > 1:
                weight.add_(gamma * weight.norm() / slopes[name].norm() * slopes[name])
    for name, weight in reference.named_parameters():
        torch.testing.assert_close(weight.detach(), inside[name], rtol=1e-4, atol=1e-6)
    expected = torch.autograd.grad(F.cross_entropy(reference(x_adv), data.y), list(reference.parameters()))
    for ours, theirs in zip(gradients, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-6)
    statistics = model.state_dict()["body.2.num_batches_tracked"]
    assert int(statistics) == int(before["body.2.num_batches_tracked"]) + 1


def test_awp_around_an_unknown_defense_is_refused() -> None:
    with pytest.raises(UserError, match="did you mean 'trades'"):
        loss_of(make("awp", wraps="tradse"))


PASSES: dict[str, tuple[dict[str, Any], int]] = {
    "fgsm_at": ({}, 3),
    "alp": ({"steps": 7}, 9),
    "mart": ({"steps": 10}, 12),
    "bilateral": ({}, 4),
    "feature_scatter": ({}, 3),
    "awp": ({"wraps": "pgd_at:steps=7"}, 8),
}


@pytest.mark.parametrize("name", PASSES)
def test_passes_a_step_are_the_methods_own(name: str) -> None:
    settings, passes = PASSES[name]
    model = Net()
    loss_of(make(name, **settings), model)
    assert model.images == passes * len(batch().x)


def test_awp_costs_the_outer_pass_twice_and_the_images_once() -> None:
    model, data = Net(), batch()
    defense = make("awp", wraps="pgd_at:steps=7")
    step = Step({"model": model.train()}, THREAT, generator(), 0.0)
    with defense.around_update(data, step):
        defense.losses(data, step)
    assert model.images == (7 + 1 + 1) * len(data.x)


@pytest.mark.parametrize("name", ["fgsm_at", "alp", "mart", "bilateral", "feature_scatter", "tla", "lat"])
def test_l2_is_served_too(name: str) -> None:
    from robench.threat import ThreatModel

    model = build("digit_cnn", (1, 8, 8), 3)
    torch.manual_seed(0)
    step = Step({"model": model.train()}, ThreatModel.of("l2", 0.5), generator(), 0.0)
    from robench.training.defense import Batch

    loss = make(name).losses(Batch(torch.rand(6, 1, 8, 8), torch.tensor([0, 1, 2, 0, 1, 2])), step)["model"]
    assert loss.isfinite()
