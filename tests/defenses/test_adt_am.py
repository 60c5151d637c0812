"""The amortised distributions: the networks, the losses of the three players, and the attacks made of them."""

import copy
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributions import AffineTransform, Distribution, Normal, TanhTransform, TransformedDistribution

import robench
from robench.data import datasets
from robench.evaluation.plan import EvaluationOptions, plan_evaluation
from robench.models import ARCHITECTURES, checkpoint
from robench.models.generators import (
    LATENT,
    ExplicitGenerator,
    ImplicitGenerator,
    Posterior,
    generator_input,
    log_normal_density,
)
from robench.models.tanh_gaussian import negative_log_density
from robench.search.catalog import attack
from robench.search.classifier import Classifier
from robench.search.judge import Judge
from robench.search.resources import Resources, TrainingImages
from robench.search.rng import Draws
from robench.search.search import Search
from robench.threat import ThreatModel
from robench.training.defense import Helper, Step
from robench.training.loop import train
from robench.utils.errors import AttackError, UserError
from tests.helpers import Trained, linear_case, run_attack
from tests.toy import THREAT, Net, batch, generator, kl, make
from tests.training.test_loop import assert_equal_weights, interrupted, loop_of, plan

SHAPES = [(1, 8, 8), (1, 28, 28), (3, 32, 32)]
KINDS = ["explicit", "implicit"]


@pytest.mark.parametrize("shape", SHAPES)
def test_outputs_are_shaped_like_the_images(shape: tuple[int, ...]) -> None:
    seen, z = torch.rand(2, 3 * shape[0], *shape[1:]), torch.rand(2, LATENT)
    mu, rho = ExplicitGenerator(shape, 8, "paper")(seen)
    delta = ImplicitGenerator(shape, 8, "code")(seen, z)
    assert mu.shape == rho.shape == delta.shape == (2, *shape)
    assert delta.abs().max() < 1
    assert Posterior(shape, 8)(delta, z).shape == (2,)


def convolutions(network: nn.Module, kernel: int = 3) -> list[nn.Conv2d]:
    return [layer for layer in network.modules() if isinstance(layer, nn.Conv2d) and layer.kernel_size[0] == kernel]


def test_the_networks_are_the_papers() -> None:
    torch.manual_seed(0)
    explicit, implicit = ExplicitGenerator((3, 32, 32), 256, "paper"), ImplicitGenerator((3, 32, 32), 256, "code")
    wide = [256, *[512] * 6]
    assert [layer.out_channels for layer in convolutions(explicit)] == [*wide, 6]
    assert [layer.out_channels for layer in convolutions(implicit)] == [*wide[:-2], 256, 256, 3]
    assert [network.trunk[0].in_channels for network in (explicit, implicit)] == [9, 10]
    fully = [(layer.in_features, layer.out_features) for layer in implicit.modules() if isinstance(layer, nn.Linear)]
    assert fully == [(64, 256), (256, 1024)]
    assert all(layer.bias is None and layer.stride == (1, 1) for layer in convolutions(explicit))
    assert float(convolutions(explicit)[3].weight.detach().std()) == pytest.approx(0.02, rel=0.01)
    posterior = Posterior((3, 32, 32), 256)
    found = [layer for layer in posterior.modules() if isinstance(layer, nn.Conv2d)]
    assert [(layer.out_channels, layer.kernel_size[0], layer.stride[0]) for layer in found] == [
        (32, 5, 1),
        (64, 4, 2),
        (128, 4, 1),
        (256, 4, 2),
    ]
    assert posterior.trunk(torch.rand(2, 3, 32, 32)).shape == (2, 256, 4, 4)
    assert not set(ARCHITECTURES.values()) & {ExplicitGenerator, ImplicitGenerator, Posterior}


def test_what_the_generator_sees() -> None:
    model, x, y = linear_case(3, examples=6)
    x, eps = x.clone(), 0.3
    x[0] = 0.9  # the box cuts its FGSM point
    seen = generator_input(model, x, y, eps)
    weight = model.layer.weight.detach()

    def slope(at: Tensor) -> Tensor:
        probabilities: Tensor = model(at).detach().softmax(1)
        return ((probabilities - F.one_hot(y, 3)) @ weight / 64).view_as(at)

    fgsm = (x + eps * slope(x).sign()).clamp(0, 1)
    assert torch.allclose(seen, torch.cat([x, slope(x), slope(fgsm)], 1), atol=1e-7)
    assert torch.allclose(generator_input(model, x[2:3], y[2:3], eps), seen[2:3], atol=1e-7)


def log_density(distribution: Distribution, at: Tensor) -> Tensor:
    """By the library."""
    return distribution.log_prob(at)


def test_the_explicit_entropy_is_that_of_the_distribution() -> None:
    """Eq. 11 against the library's density, and its mean over many draws against the entropy of a histogram."""
    eps = 0.2
    mu, rho = torch.tensor([0.4], dtype=torch.float64), torch.tensor([-0.5], dtype=torch.float64)
    noise = torch.randn(60_000, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    distribution = TransformedDistribution(
        Normal(mu, F.softplus(rho)), [TanhTransform(cache_size=1), AffineTransform(0, eps)]
    )
    delta = eps * torch.tanh(mu + F.softplus(rho) * noise)
    ours = negative_log_density(noise, mu, rho, eps)
    assert torch.allclose(ours[:1000], -log_density(distribution, delta[:1000]), atol=1e-5)
    counts, edges = np.histogram(delta.numpy(), bins=100, range=(-eps, eps))
    share = counts[counts > 0] / counts.sum()
    entropy = -(share * np.log(share)).sum() + math.log(edges[1] - edges[0])
    assert float(ours.mean()) == pytest.approx(entropy, abs=0.01)


def test_the_bound_is_the_entropy_where_q_is_the_posterior() -> None:
    """delta = a z + s n with z and n standard normal: everything about it is known."""
    a, s = 0.8, 0.3
    z, n = torch.randn(2, 60_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    delta, total = a * z + s * n, a**2 + s**2
    constant = math.log(2 * math.pi * math.e) / 2 + math.log(2 * math.pi * math.e * s**2) / 2  # H(z) + H(delta | z)
    entropy = math.log(2 * math.pi * math.e * total) / 2

    def bound(mean: Tensor, variance: float) -> float:
        return float(log_normal_density(z, mean, torch.tensor(variance)).mean()) + constant

    assert bound(a / total * delta, s**2 / total) == pytest.approx(entropy, abs=0.01)
    for mean, variance in ((a / total * delta, 1.0), (0 * delta, 1.0), (0.5 * delta, s**2 / total)):
        assert bound(mean, variance) < entropy - 0.1


def test_the_posterior_gives_the_log_density_of_its_gaussian() -> None:
    posterior = Posterior((1, 8, 8), 8)
    with torch.no_grad():
        posterior.head.weight.zero_()
        posterior.head.bias[:LATENT], posterior.head.bias[LATENT:] = 0.3, -1.0
    z = torch.rand(4, LATENT) * 2 - 1
    expected = log_density(Normal(0.3, math.sqrt(math.log1p(math.exp(-1)))), z).mean(1)
    assert torch.allclose(posterior(torch.rand(4, 1, 8, 8), z), expected, atol=1e-6)


def players(settings: dict[str, Any]) -> dict[str, nn.Module]:
    model = Net()
    torch.manual_seed(5)
    helpers = make("adt_am", filters=8, **settings).helpers(nn.Identity(), (1, 4, 4), 3)
    with torch.no_grad():  # away from the start, where nothing is learned yet
        for helper in helpers.values():
            for parameter in helper.network.parameters():
                parameter.add_(0.2 * torch.randn(parameter.shape))
    return {"model": model.train(), **{name: helper.network.train() for name, helper in helpers.items()}}


def losses_of(networks: dict[str, nn.Module], threat: ThreatModel = THREAT, **settings: Any) -> dict[str, Tensor]:
    torch.manual_seed(3)  # of dropout
    step = Step(networks, threat, generator(), 0.0)
    return make("adt_am", filters=8, **settings).losses(batch(), step)


def gradients(loss: Tensor, network: nn.Module) -> list[Tensor]:
    return list(torch.autograd.grad(loss, list(network.parameters()), retain_graph=True))


@pytest.mark.parametrize("loss", ["ce", "trades"])
@pytest.mark.parametrize("distribution", KINDS)
def test_the_losses_of_all_players(distribution: str, loss: str) -> None:
    settings: dict[str, Any] = {"distribution": distribution, "loss": loss, "beta": 3, "entropy_weight": 0.5}
    networks = players(settings)
    plain = copy.deepcopy(networks)
    losses = losses_of(networks, **settings)

    x, y, model = batch().x, batch().y, plain["model"]
    model.eval()
    raw: list[Tensor] = []
    for _ in range(2):
        at = (x + 0.1 * raw[0].sign()).clamp(0, 1) if raw else x.clone()
        raw += torch.autograd.grad(F.cross_entropy(model(at.requires_grad_()), y) * 6 / 64, at)  # 6 examples, not 64
    seen = torch.cat([x, *raw], 1)
    model.train()
    if distribution == "explicit":
        mu, rho = plain["generator"](seen)
        noise = torch.randn(x.shape, generator=generator())
        delta = 0.1 * torch.tanh(mu + F.softplus(rho) * noise)
        transforms = [TanhTransform(cache_size=0), AffineTransform(0, 0.1)]
        entropy = -log_density(TransformedDistribution(Normal(mu, F.softplus(rho)), transforms), delta).mean()
    else:
        z = 2 * torch.rand(6, LATENT, generator=generator()) - 1
        pert = plain["generator"](seen, z)
        padded = F.pad(pert, [14] * 4)
        trunk, head = (plain["posterior"].get_submodule(part) for part in ("trunk", "head"))
        mean, variance = head(trunk(padded).mean((2, 3))).split(LATENT, 1)
        entropy = log_density(Normal(mean, F.softplus(variance).sqrt()), z).mean()
        delta = 0.1 * pert
    torch.manual_seed(3)
    clean = model(x) if loss == "trades" else None
    adversarial = model((x + delta).clamp(0, 1))
    risk = F.cross_entropy(adversarial, y) if clean is None else kl(clean, adversarial).mean()
    expected = {
        "model": risk if clean is None else F.cross_entropy(clean, y) + 3 * risk,
        "generator": -risk - 0.5 * entropy,
        "posterior": -0.5 * entropy,
    }
    assert set(losses) == set(networks)
    for name, value in losses.items():
        assert value.item() == pytest.approx(expected[name].item(), rel=1e-4), name
        for ours, theirs in zip(gradients(value, networks[name]), gradients(expected[name], plain[name]), strict=True):
            assert torch.allclose(ours, theirs, rtol=1e-2, atol=1e-5), name


def test_the_codes_entropy_term_goes_silent_above_its_threshold() -> None:
    settings: dict[str, Any] = {"distribution": "implicit", "entropy_weight": 1.0}
    networks = players(settings)
    plain: float = losses_of(copy.deepcopy(networks), **settings)["posterior"].item()  # minus the bound
    for threshold in (plain - 0.3, plain + 0.3):
        losses = losses_of(copy.deepcopy(networks), **settings, entropy_threshold=threshold)
        term, risk = losses["posterior"].item(), losses["model"].item()
        assert term == pytest.approx(max(plain - threshold, 0), abs=1e-5)
        assert losses["generator"].item() == pytest.approx(term - risk, abs=1e-5)


@pytest.mark.parametrize("distribution", KINDS)
@pytest.mark.parametrize(("player", "sign"), [("model", -1), ("generator", 1)])
def test_the_model_lowers_what_the_generator_raises(player: str, sign: int, distribution: str) -> None:
    settings: dict[str, Any] = {"distribution": distribution, "entropy_weight": 0.0}
    networks = players(settings)
    before = losses_of(networks, **settings)
    with torch.no_grad():
        slopes = gradients(before[player], networks[player])
        length = torch.cat([slope.flatten() for slope in slopes]).norm()
        for parameter, slope in zip(networks[player].parameters(), slopes, strict=True):
            parameter.sub_(0.01 * slope / length)
    after = losses_of(networks, **settings)
    assert sign * (after["model"] - before["model"]).item() > 0


@pytest.mark.parametrize("distribution", KINDS)
@pytest.mark.parametrize(("loss", "passes"), [("ce", 3), ("trades", 4)])
def test_passes_a_step_are_the_methods_own(loss: str, passes: int, distribution: str) -> None:
    networks = players({"distribution": distribution})
    losses_of(networks, distribution=distribution, loss=loss)
    assert networks["model"].images == passes * len(batch().x)
    assert all(network.training for network in networks.values())


def test_a_resumed_training_ends_with_the_same_players(tmp_path: Path) -> None:
    """Four steps an epoch; the checkpoint's helpers are of the epoch that was kept, and go into fresh networks."""
    planned = plan("adt_imp_am", epochs=2, filters=8)
    train(planned, tmp_path / "whole.pt")
    interrupted(planned, tmp_path / "cut.pt", 1, 5)
    assert_equal_weights(tmp_path / "whole.pt", tmp_path / "cut.pt")
    whole, cut = (checkpoint.helpers_of(checkpoint.read(tmp_path / name)) for name in ("whole.pt", "cut.pt"))
    assert whole.keys() == cut.keys() == {"generator", "posterior"}
    fresh: dict[str, Helper] = planned.recipe.defense.helpers(nn.Identity(), (1, 8, 8), 10)
    for name, state in whole.items():
        assert all(torch.equal(state[key], cut[name][key]) for key in state)
        fresh[name].network.load_state_dict(state)


def test_the_helpers_saved_are_those_of_the_epoch_kept(tmp_path: Path) -> None:
    planned = plan("adt_exp_am", epochs=2, filters=8, holdout=0, limit=128)
    loop = loop_of(planned, tmp_path)
    states = []
    for _ in range(2):
        for _ in range(2):
            loop._step()
        loop._end_epoch()
        states.append(checkpoint.cpu_weights(loop.run_state.players["generator"]))
    loop._step()  # after the epoch kept
    loop._finish()
    saved = checkpoint.helpers_of(checkpoint.read(tmp_path / "m.pt"))["generator"]
    assert all(torch.equal(saved[key], states[1][key]) for key in saved)
    assert not torch.equal(states[0]["trunk.0.weight"], states[1]["trunk.0.weight"])


def test_a_checkpoint_without_helpers_is_read_as_before() -> None:
    assert checkpoint.helpers_of({"format": checkpoint.FORMAT, "weights": {}}) == {}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"filters": 4}, "filters of at least 8"),
        ({"filters": 0}, "at least 1"),
        ({"distribution": "gaussian"}, "explicit"),
        ({"blocks": "thin"}, "paper"),
        ({"entropy_threshold": 0.9}, "implicit distribution"),
        ({"entropy_weight": -1}, "at least 0"),
    ],
)
def test_wrong_settings(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        make("adt_am", **settings).helpers(nn.Identity(), (1, 8, 8), 10)


def test_it_needs_linf(digits_model: Trained) -> None:
    with pytest.raises(UserError, match="linf"):
        losses_of(players({}), ThreatModel.of("l2", 1))
    x, y = digits_model.split.floats(slice(2)), digits_model.split.labels[:2]
    with pytest.raises(UserError, match="linf"):
        robench.attack("adt_imp_am")(digits_model.model, x, y, norm="l2", eps=1, training=(x, y))


# As attacks

THREAT_ON_DIGITS = ThreatModel.of("linf", 0.1)
ATTACKS = [f"{name}:filters=8,epochs=12,lr=0.002,draws=4" for name in ("adt_exp_am", "adt_imp_am")]


@pytest.fixture(scope="module")
def training() -> TrainingImages:
    split = datasets.load("digits", "train")
    return TrainingImages(split.floats(slice(320)), split.labels[:320])


def correct(trained: Trained, count: int) -> tuple[Tensor, Tensor]:
    x, y = trained.split.floats(slice(150)), trained.split.labels[:150]
    right = trained.model(x).argmax(1) == y
    return x[right][:count], y[right][:count]


@pytest.mark.parametrize("name", ATTACKS)
def test_the_attack_beats_noise_whatever_the_batch(name: str, digits_model: Trained, training: TrainingImages) -> None:
    x, y = correct(digits_model, 100)
    model = digits_model.model
    random_state = torch.random.get_rng_state()
    together = run_attack(name, model, x, y, THREAT_ON_DIGITS, training=training)
    assert torch.equal(torch.random.get_rng_state(), random_state)
    signs = torch.randn(4, *x.shape, generator=torch.Generator().manual_seed(0)).sign()
    by_noise = torch.stack([model((x + 0.1 * sign).clamp(0, 1)).argmax(1) != y for sign in signs]).any(0)
    assert int(together.fooled.sum()) > 2 * int(by_noise.sum()) + 5
    assert not together.invalid.any()
    standing = ~together.fooled
    assert set(together.forwards[standing].tolist()) == {2 + 4}
    assert set(together.backwards[standing].tolist()) == {2}
    rows = list(range(30, 3, -1))  # others, in another order
    apart = run_attack(name, model, x[rows], y[rows], THREAT_ON_DIGITS, training=training, ids=rows, batch_size=5)
    assert torch.equal(apart.fooled, together.fooled[rows])
    assert torch.equal(apart.first_step, together.first_step[rows])


def searching(trained: Trained, lent: Resources, **options: Any) -> tuple[Search, Classifier]:
    classifier, (x, y) = Classifier(trained.model), correct(trained, 4)
    draws = Draws(0, np.arange(4), x.device)
    judge = Judge(classifier, THREAT_ON_DIGITS)
    return Search(classifier, judge, THREAT_ON_DIGITS, x, y, draws, resources=lent, **options), classifier


@pytest.mark.parametrize("name", ["adt_exp_am", "adt_imp_am"])
def test_the_generator_is_trained_once_and_its_passes_are_the_runs(
    name: str, digits_model: Trained, training: TrainingImages
) -> None:
    lent = Resources(training=TrainingImages(training.x[:80], training.y[:80]))
    configured = attack(f"{name}:filters=8,epochs=2,draws=1")
    totals = []
    for _ in range(2):
        search, classifier = searching(digits_model, lent, drop=False)
        outcome = search.run(configured)
        totals.append((classifier.forwards, classifier.backwards))
        assert outcome.forwards.tolist() == [3] * 4
    assert totals[0][0] - totals[1][0] == totals[0][1] - totals[1][1] == 3 * 2 * 80


def test_an_attack_without_gradients_may_not_learn_from_the_model(digits_model: Trained) -> None:
    search, _ = searching(digits_model, Resources(), access="scores")
    with pytest.raises(AttackError, match="gradients"), search.train_against():
        pass


def test_what_was_made_for_one_model_is_not_used_on_another() -> None:
    lent, first, second = Resources(), object(), object()
    assert lent.once("generator", lambda: 1) == 1
    assert lent.elsewhere(first).once("generator", lambda: 2) == 2
    assert lent.elsewhere(second).once("generator", lambda: 3) == 3
    assert lent.elsewhere(first).once("generator", lambda: 4) == 2


def test_batches_go_through_all_images_in_each_epoch() -> None:
    images = TrainingImages(torch.arange(5.0).view(5, 1, 1, 1), torch.arange(5))
    parts = list(images.batches(2, 3, torch.Generator().manual_seed(0)))
    assert [len(y) for _, y in parts] == [2, 2, 1] * 3
    assert all(torch.equal(x.flatten().long(), y) for x, y in parts)
    orders = [torch.cat([y for _, y in parts[start : start + 3]]).tolist() for start in (0, 3, 6)]
    assert all(sorted(order) == list(range(5)) for order in orders)
    assert orders[0] != orders[1]


def test_the_plan_lends_training_images_and_its_key_names_them(digits_model: Trained) -> None:
    name = "adt_exp_am:filters=8"
    planned = plan_evaluation(digits_model.model, EvaluationOptions(attacks=[name, "pgd-10"], eps=0.1, n=4))
    assert planned.training is not None
    assert len(planned.training) == 1297
    assert planned.training.fingerprint in str(planned.key(planned.attacks[0]))
    assert planned.training.fingerprint not in str(planned.key(planned.attacks[1]))
    assert [planned.passes(attack) for attack in planned.attacks] == [(12, 2), (11, 10)]
    assert plan_evaluation(digits_model.model, EvaluationOptions(attacks=["pgd-10"], eps=0.1, n=4)).training is None


def test_from_python(digits_model: Trained, training: TrainingImages) -> None:
    x, y = correct(digits_model, 4)
    given = (training.x[:64], training.y[:64])
    x_adv = robench.attack("adt_imp_am:filters=8,epochs=1")(digits_model.model, x, y, eps=0.1, training=given)
    assert (x_adv - x).abs().max() <= 0.1 + 1e-6
    with pytest.raises(UserError, match="training=") as caught:
        robench.attack("adt_exp_am")(digits_model.model, x, y, eps=0.1)
    assert "\n" not in str(caught.value)
