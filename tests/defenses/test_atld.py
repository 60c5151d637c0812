"""ATLD, IMT and L2L, each against its equation in the plainest PyTorch."""

import copy
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import robench as api
from robench.data.datasets import load
from robench.evaluation.target import load_model
from robench.models import checkpoint
from robench.models.discriminators import Discriminator
from robench.models.generators import PointGenerator, generator_input
from robench.models.network import Network
from robench.models.wide_resnet import WideBlock
from robench.threat import ThreatModel
from robench.training.defense import Batch, Step
from robench.training.inner_max import start_points
from robench.training.loop import train
from robench.training.recipe import defense_class, resolve
from robench.utils.errors import UserError
from tests.toy import THREAT, Net, batch, generator, make
from tests.training.test_loop import assert_equal_weights, interrupted, plan

SMALL: dict[str, Any] = {"discriminator_depth": 10, "discriminator_factor": 1}


class Features(Network):
    """A tiny network with features and batch norm, so that a wrong mode shows; every pass is counted."""

    smallest = 1

    def __init__(self) -> None:
        super().__init__((1, 4, 4), 3)
        torch.manual_seed(0)
        self.convolution, self.norm, self.layer = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Linear(16, 3)
        self.images = 0

    def feature_map(self, x: Tensor) -> Tensor:
        self.images += len(x)
        return self.norm(self.convolution(4 * x)).tanh()  # type: ignore[no-any-return]

    def pool(self, feature_map: Tensor) -> Tensor:
        return feature_map.flatten(1)

    def head(self, features: Tensor) -> Tensor:
        return self.layer(features)  # type: ignore[no-any-return]


def players_of(settings: Mapping[str, Any], model: nn.Module | None = None) -> dict[str, nn.Module]:
    """Networks in training mode, the discriminator away from its start, where it knows nothing."""
    model = model or Features()
    torch.manual_seed(5)
    helpers = make("atld", **SMALL, **settings).helpers(nn.Identity(), (1, 4, 4), 3)
    discriminator = helpers["discriminator"].network
    with torch.no_grad():
        for _ in range(3):  # running statistics like the batch's
            discriminator(3 * torch.randn(64, 16 if settings.get("latent") == "features" else 3))
        for parameter in discriminator.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape))
    return {"model": model.train(), "discriminator": discriminator.train()}


def losses_of(networks: Mapping[str, nn.Module], **settings: Any) -> tuple[dict[str, Tensor], Step]:
    step = Step(networks, THREAT, generator(), 0.0)
    torch.manual_seed(3)
    return make("atld", **SMALL, **settings).losses(batch(), step), step


def gradients(loss: Tensor, network: nn.Module) -> list[Tensor]:
    return list(torch.autograd.grad(loss, list(network.parameters()), retain_graph=True))


def soft(logits: Tensor, y: Tensor) -> Tensor:
    """Cross-entropy with half of the label on the two other classes, the mean."""
    target = torch.full((len(y), 3), 0.25).scatter(1, y[:, None], 0.5)
    return -(target * logits.log_softmax(1)).sum(1).mean()


@pytest.mark.parametrize("latent", ["logits", "features"])
@pytest.mark.parametrize("invariance", ["mse", "discriminator"])
def test_the_losses_of_both_players(latent: str, invariance: str) -> None:
    settings = {"latent": latent, "invariance": invariance, "invariance_weight": 0.7, "feature_width": 16}
    networks = players_of(settings)
    plain = copy.deepcopy(networks)
    losses, step = losses_of(networks, **settings)

    x, y = batch().x, batch().y
    model, discriminator = plain["model"], plain["discriminator"]
    assert isinstance(model, Features)
    seen: Callable[[Tensor], Tensor] = model if latent == "logits" else model.features

    def d0(latents: Tensor) -> Tensor:
        return discriminator(latents)[0].sigmoid()  # type: ignore[no-any-return]

    model.eval()
    discriminator.eval()
    start = start_points("ball", x, THREAT, generator()).requires_grad_()
    objective = (d0(seen(start)).log() + (1 - d0(seen(x))).log()).sum()
    (gradient,) = torch.autograd.grad(objective, start)
    x_adv = (start.detach() + 0.1 * gradient.sign()).clamp(x - 0.1, x + 0.1).clamp(0, 1).requires_grad_()
    natural = seen(x)
    model.train()
    discriminator.train()
    adversarial = seen(x_adv)
    logits = adversarial if latent == "logits" else model.head(adversarial)
    v_adversarial, classes_adversarial = discriminator(adversarial)
    v_natural, classes_natural = discriminator(natural)

    ones, zeros = torch.ones(6), torch.zeros(6)
    of_manifold = F.binary_cross_entropy(v_adversarial.sigmoid(), ones)
    of_manifold = of_manifold + F.binary_cross_entropy(v_natural.sigmoid(), zeros)
    risk = soft(logits, y)
    if invariance == "mse":
        distance = ((adversarial - natural.detach()) ** 2).mean()
        (of_risk,) = torch.autograd.grad(risk, x_adv, retain_graph=True)
        (of_distance,) = torch.autograd.grad(distance, x_adv, retain_graph=True)
        expected = risk + 0.7 * float(of_risk.max() / of_distance.max()) * distance
    else:
        expected = risk - 0.7 * of_manifold
    pairs = {
        "model": (expected, model),
        "discriminator": (of_manifold + soft(classes_adversarial, y) + soft(classes_natural, y), discriminator),
    }
    assert set(losses) == set(pairs)
    for name, (value, network) in pairs.items():
        assert losses[name].item() == pytest.approx(value.item(), rel=1e-4), name
        for ours, theirs in zip(gradients(losses[name], networks[name]), gradients(value, network), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-5)
    assert step.metrics["manifold"].item() == pytest.approx(-of_manifold.item(), rel=1e-4)


def test_an_invariance_without_slope_weighs_nothing() -> None:
    class Flat(Features):
        def head(self, features: Tensor) -> Tensor:
            return 0 * super().head(features)

    losses, step = losses_of(players_of({}, Flat()))
    assert losses["model"].isfinite()
    assert step.metrics["invariance"] == 0


@pytest.mark.parametrize("invariance", ["mse", "discriminator"])
def test_passes_a_step_are_the_docstrings(invariance: str) -> None:
    networks = players_of({"invariance": invariance})
    losses_of(networks, invariance=invariance)
    assert networks["model"].images == 3 * len(batch().x)
    assert all(module.training for network in networks.values() for module in network.modules())


def test_one_step_is_the_codes_two_to_first_order() -> None:
    helper = make("atld", **SMALL, discriminator_lr=1e-3).helpers(nn.Identity(), (1, 4, 4), 3)["discriminator"]
    (group,) = helper.optimizer.param_groups
    assert (group["lr"], group["momentum"], group["weight_decay"]) == (2e-3, 0.9, 2e-4)


# The discriminator


def test_the_discriminator_is_the_codes() -> None:
    network = Discriminator(100, 100, 28, 5)
    convolutions = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d)]
    assert convolutions[0].in_channels == 100
    assert sorted({layer.out_channels for layer in convolutions}) == [16, 80, 160, 320]
    assert sum(isinstance(layer, WideBlock) for layer in network.modules()) == 3 * 4
    v, classes = network(torch.randn(2, 100))
    assert (v.shape, classes.shape) == ((2,), (2, 100))


@pytest.mark.parametrize("depth", [4, 12])
def test_depths_that_no_wide_resnet_has_are_refused(depth: int) -> None:
    with pytest.raises(UserError, match="10, 16, 22"):
        make("atld", discriminator_depth=depth).helpers(nn.Identity(), (1, 4, 4), 3)


def test_features_of_another_width_are_refused() -> None:
    settings = {"latent": "features", "feature_width": 8}
    helper = make("atld", **SMALL, **settings).helpers(nn.Identity(), (1, 4, 4), 3)["discriminator"]
    with pytest.raises(UserError, match="16 values, not the discriminator's 8"):
        losses_of({"model": Features(), "discriminator": helper.network}, **settings)


# The two-dimensional toy: images of two pixels, and a discriminator that finds them adversarial along (1, -1)


class Plane(Network):
    """Logits are twice the pixels."""

    smallest = 1

    def __init__(self) -> None:
        super().__init__((1, 1, 2), 2)
        self.linear = nn.Linear(2, 2, bias=False)
        nn.init.eye_(self.linear.weight)

    def feature_map(self, x: Tensor) -> Tensor:
        return 2 * x

    def pool(self, feature_map: Tensor) -> Tensor:
        return feature_map.flatten(1)

    def head(self, features: Tensor) -> Tensor:
        return self.linear(features)  # type: ignore[no-any-return]


class Slope(nn.Module):
    """v rises along (1, -1)."""

    def __init__(self) -> None:
        super().__init__()
        self.steepness = nn.Parameter(torch.tensor(3.0))

    def forward(self, latent: Tensor) -> tuple[Tensor, Tensor]:
        return self.steepness * (latent[:, 0] - latent[:, 1]), latent


TOY = ThreatModel.of("linf", 0.1)
MIDDLE = torch.tensor([[0.5, 0.5], [0.6, 0.3], [0.1, 0.9], [0.95, 0.02]]).view(4, 1, 1, 2)
"""D0 of 0.5, 0.86, 0.008 and 1."""


def toy() -> dict[str, nn.Module]:
    return {"model": Plane(), "discriminator": Slope()}


def test_the_perturbation_moves_towards_the_adversarial_side() -> None:
    defense = make("atld", start="clean")
    middle = Batch(MIDDLE, torch.zeros(len(MIDDLE), dtype=torch.int64))
    x_adv = defense._manifold_adversary(middle, Step(toy(), TOY, generator(), 0.0))  # type: ignore[attr-defined]
    torch.testing.assert_close(x_adv, (MIDDLE + 0.1 * torch.tensor([1.0, -1.0])).clamp(0, 1))


def test_imt_moves_away_from_it() -> None:
    deployed = make("atld", imt="plain").deploy(toy(), TOY).eval()
    with torch.no_grad():
        moved = deployed(MIDDLE).view_as(MIDDLE) / 2
    torch.testing.assert_close(moved, (MIDDLE + 0.1 * torch.tensor([-1.0, 1.0])).clamp(0, 1))


def test_imt_plus_halves_the_step_in_the_band() -> None:
    deployed = make("atld", imt="plus").deploy(toy(), TOY).eval()
    with torch.no_grad():
        moved = deployed(MIDDLE).view_as(MIDDLE) / 2
    size = torch.tensor([0.05, 0.1, 0.1, 0.1]).view(4, 1, 1, 1)
    torch.testing.assert_close(moved, (MIDDLE + size * torch.tensor([-1.0, 1.0])).clamp(0, 1))


def test_none_is_the_model_itself() -> None:
    networks = toy()
    assert make("atld").deploy(networks, TOY) is networks["model"]


def test_the_gradient_through_imt_is_the_true_one() -> None:
    """Against finite differences, away from the box."""
    settings = {"imt": "plus"}
    networks = players_of(settings)
    deployed = make("atld", **SMALL, **settings).deploy(networks, THREAT).double().eval()
    x = (0.2 + 0.6 * batch().x.double()).requires_grad_()
    direction = torch.randn(x.shape, generator=generator(), dtype=torch.float64)
    (gradient,) = torch.autograd.grad(deployed(x)[:, 0].sum(), x)
    with torch.no_grad():
        difference = (deployed(x + 1e-6 * direction)[:, 0] - deployed(x - 1e-6 * direction)[:, 0]) / 2e-6
    torch.testing.assert_close((gradient * direction).flatten(1).sum(1), difference, rtol=1e-4, atol=1e-6)


def test_what_is_deployed_depends_on_no_companion_and_shows_its_features() -> None:
    networks = players_of({})
    deployed = make("atld", imt="plain").deploy(networks, THREAT).eval()
    assert isinstance(deployed, Network)
    x = batch().x
    with torch.no_grad():
        together = deployed(x)
        torch.testing.assert_close(together, torch.cat([deployed(row[None]) for row in x]))
        torch.testing.assert_close(together, deployed.head(deployed.pool(deployed.feature_map(x))))
    counted = networks["model"]
    assert isinstance(counted, Features)
    counted.images = 0
    deployed(x)
    assert counted.images == 2 * len(x)


# Trained


def test_a_resumed_training_ends_with_the_same_players(tmp_path: Path) -> None:
    """Four steps an epoch."""
    planned = plan("atld", epochs=2)
    train(planned, tmp_path / "whole.pt")
    interrupted(planned, tmp_path / "cut.pt", 1, 5)
    assert_equal_weights(tmp_path / "whole.pt", tmp_path / "cut.pt")
    whole, cut = (checkpoint.helpers_of(checkpoint.read(tmp_path / name)) for name in ("whole.pt", "cut.pt"))
    assert whole.keys() == cut.keys() == {"discriminator"}
    assert all(torch.equal(weight, cut["discriminator"][key]) for key, weight in whole["discriminator"].items())


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("atld") / "imt.pt"
    train(plan("atld_imt", epochs=2), path)
    return path


def test_a_checkpoint_is_deployed_behind_imt_with_its_own_discriminator(trained: Path) -> None:
    subject = load_model(trained)
    assert subject.undefended is not None
    assert "test-time transform of atld_imt" in subject.notices[0]
    imt: Any = subject.model
    saved = checkpoint.helpers_of(checkpoint.read(trained))["discriminator"]
    assert all(torch.equal(weight, saved[name]) for name, weight in imt.suspicion.discriminator.state_dict().items())
    assert not any(module.training for module in imt.modules())
    x = load("digits", "test").floats(slice(8))
    with torch.no_grad():
        moved = imt.transformed(x)
        assert float((moved - x).abs().max()) == pytest.approx(0.2, abs=1e-5)
        torch.testing.assert_close(imt(x), subject.undefended(moved))
        assert bool((imt.suspicion(moved) <= imt.suspicion(x) + 1e-3).float().mean() > 0.8)


def test_the_band_and_the_radius_are_in_the_key(trained: Path, tmp_path: Path) -> None:
    document = checkpoint.read(trained)
    keys = [load_model(trained).key()["source"]]
    changes: list[dict[str, Any]] = [{"eps": "0.1"}, {"recipe": {"settings": {**SMALL, "imt": "plus"}}}]
    for change in changes:
        checkpoint.save_document(tmp_path / "m.pt", {**document, "card": {**document["card"], **change}})
        keys.append(load_model(tmp_path / "m.pt").key()["source"])
    assert len(set(keys)) == 3


def test_both_protocols_attack_it(trained: Path, tmp_path: Path) -> None:
    attacks = ["pgd-10", "feature:targets=2,steps=2"]
    adaptive = api.evaluate(trained, attacks=attacks, n=16, results=tmp_path)
    static = api.evaluate(trained, attacks=attacks, n=16, protocol="static", results=tmp_path)
    for summary in (adaptive, static):
        assert all(result.errors == 0 for result in summary.attacks.values())
    assert any("--protocol adaptive" in reason for reason in static.verdict.reasons)


# L2L


def test_l2l() -> None:
    defense = make("l2l", filters=8)
    torch.manual_seed(5)
    network = defense.helpers(nn.Identity(), (1, 4, 4), 3)["generator"].network.train()
    model, plain = Net().train(), Net()
    reference = copy.deepcopy(network)
    torch.manual_seed(3)
    losses = defense.losses(batch(), Step({"model": model, "generator": network}, THREAT, generator(), 0.0))
    assert model.images == 3 * len(batch().x)
    x, y = batch().x, batch().y
    seen = generator_input(plain.eval(), x, y, 0.1)
    delta = 0.1 * torch.tanh(reference.get_submodule("trunk")(seen))
    torch.manual_seed(3)
    expected = F.cross_entropy(plain.train()((x + delta).clamp(0, 1)), y)
    assert losses["model"].item() == pytest.approx(expected.item(), rel=1e-5)
    assert losses["generator"].item() == pytest.approx(-expected.item(), rel=1e-5)
    for ours, theirs in zip(gradients(losses["generator"], network), gradients(-expected, reference), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-2, atol=1e-5)


def test_the_point_generator_stays_in_the_ball() -> None:
    delta = PointGenerator((3, 8, 8), 8, "code")(torch.randn(2, 9, 8, 8))
    assert delta.shape == (2, 3, 8, 8)
    assert delta.abs().max() < 1


def test_l2l_needs_linf() -> None:
    with pytest.raises(UserError, match="linf"):
        make("l2l").losses(Batch(batch().x, batch().y), Step({}, ThreatModel.of("l2", 1), generator(), 0.0))


def test_the_recipes_are_the_papers() -> None:
    cifar = resolve("atld", "cifar10", (3, 32, 32), {})
    assert cifar.describe()["settings"] == resolve("atld", "svhn", (3, 32, 32), {}).describe()["settings"]
    assert cifar.setup.drops == [60, 90]
    assert (cifar.setup.epochs, cifar.setup.batch_size, cifar.setup.weight_decay) == (400, 50, 2e-4)
    assert resolve("atld_imt_plus", "cifar100", (3, 32, 32), {}).describe()["settings"]["invariance_weight"] == 0.1
    kind = defense_class("atld")
    assert (kind().discriminator_depth, kind().discriminator_factor, kind().discriminator_lr) == (28, 5, 1e-3)
