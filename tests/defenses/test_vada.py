"""VADA and ALD's form of it: the losses against their definition, what is averaged, and a checkpoint on its target."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robench.data import datasets
from robench.evaluation.target import load_model
from robench.models import checkpoint
from robench.models.network import Network
from robench.threat import ThreatModel
from robench.training.defense import Batch, Step
from robench.training.loop import train
from robench.training.plan import plan_training
from tests.helpers import Ran
from tests.toy import generator, make
from tests.training.test_loop import assert_equal_weights, interrupted, loop_of, plan, with_target

THREAT = ThreatModel.of("l2", 0.7)


class Tiny(Network):
    """A batch norm in the part that the discriminator sees."""

    def __init__(self) -> None:
        super().__init__((), 0)
        torch.manual_seed(0)
        self.below = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.BatchNorm1d(8), nn.Tanh()).double()
        self.above = nn.Linear(8, 3).double()

    def feature_map(self, x: Tensor) -> Tensor:
        return self.below(x)  # type: ignore[no-any-return]

    def pool(self, feature_map: Tensor) -> Tensor:
        return feature_map

    def head(self, features: Tensor) -> Tensor:
        return 2 * self.above(features)  # type: ignore[no-any-return]


def batch() -> Batch:
    x = torch.rand(11, 1, 4, 4, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    return Batch(x[:5], torch.tensor([0, 1, 2, 1, 0]), {"target": x[5:]})


def players(model: nn.Module, **settings: Any) -> dict[str, nn.Module]:
    torch.manual_seed(1)
    discriminator = make("vada", **settings).helpers(model.float(), (1, 4, 4), 3)["discriminator"].network.double()
    return {"model": model.double().train(), "discriminator": discriminator}


def kl(p: Tensor, q: Tensor) -> Tensor:
    return (p.softmax(1) * (p.log_softmax(1) - q.log_softmax(1))).sum(1)


def unit(d: Tensor) -> Tensor:
    length: Tensor = d.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    return d / length


WEIGHTS = {"domain_weight": 0.3, "source_weight": 0.5, "target_weight": 2.0}


def test_the_losses_are_their_definition() -> None:
    defense = make("vada", particles=2, xi=2, **WEIGHTS)
    both = players(Tiny())
    losses = defense.losses(batch(), Step(both, THREAT, generator(), 0.0))

    again, data = players(Tiny()), batch()
    model, discriminator = again["model"], again["discriminator"]
    assert isinstance(model, Tiny)
    source, target = model.below(data.x), model.below(data.more["target"])
    logits, logits_t = model.head(source), model.head(target)
    p, p_t = (discriminator(encoded).sigmoid() for encoded in (source, target))
    told_apart = -(p.log().mean() + (1 - p_t).log().mean()) / 2
    confused = -((1 - p).log().mean() + p_t.log().mean()) / 2
    entropy = -(logits_t.softmax(1) * logits_t.log_softmax(1)).sum(1).mean()
    draws, smoothness = generator(), []
    for x, reference in ((data.x, logits.detach()), (data.more["target"], logits_t.detach())):
        points, stacked = x.repeat(2, 1, 1, 1), reference.repeat(2, 1)
        d = unit(torch.rand(points.shape, generator=draws, dtype=torch.float64) - 0.5).requires_grad_()
        (gradient,) = torch.autograd.grad(kl(stacked, model(points + 2 * d)).sum(), d)
        smoothness.append(kl(stacked, model(points + 0.7 * unit(gradient))).mean())
    expected = F.cross_entropy(logits, data.y) + 0.3 * confused + 0.5 * smoothness[0] + 2 * (entropy + smoothness[1])
    assert losses["model"].item() == pytest.approx(expected.item(), rel=1e-9)
    assert losses["discriminator"].item() == pytest.approx(told_apart.item(), rel=1e-9)


def test_batch_norm_keeps_the_targets_statistics() -> None:
    both, alone = players(Tiny()), players(Tiny())["model"]
    make("vada", **WEIGHTS).losses(batch(), Step(both, THREAT, generator(), 0.0))
    alone(batch().more["target"])
    for name in ("below.2.running_mean", "below.2.running_var"):
        assert torch.equal(both["model"].state_dict()[name], alone.state_dict()[name])


def test_without_weights_the_source_teaches_alone() -> None:
    defense = make("vada", domain_weight=0, source_weight=0, target_weight=0)
    both = players(Tiny())
    losses = defense.losses(batch(), Step(both, THREAT, generator(), 0.0))
    model = players(Tiny())["model"]
    assert losses["model"].item() == pytest.approx(F.cross_entropy(model(batch().x), batch().y).item(), rel=1e-12)


def test_with_one_particle_and_a_kernel_of_its_own_it_is_vada() -> None:
    found = []
    for scope in ("none", "example"):
        both = players(Tiny())
        losses = make("vada", kernel_scope=scope, xi=0.1, **WEIGHTS).losses(
            batch(), Step(both, THREAT, generator(), 0.0)
        )
        found.append(torch.autograd.grad(losses["model"], list(both["model"].parameters())))
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


def test_the_average_of_the_weights_is_kept(tmp_path: Path) -> None:
    """Against the recursion a <- 0.9 a + 0.1 w from the weights after the first step."""
    loop = loop_of(with_target(plan("vada", arch="digit_cnn", average=0.9, epochs=1)), tmp_path)
    model = loop.run_state.players["model"]
    expected: dict[str, Tensor] = {}
    for _ in range(loop.steps_per_epoch):
        loop._step()
        for name, weight in model.state_dict().items():
            expected[name] = weight.clone() if name not in expected else 0.9 * expected[name] + 0.1 * weight
    last = model.state_dict()["hidden.weight"].clone()
    loop._end_epoch()
    loop._finish()
    kept = checkpoint.read(tmp_path / "m.pt")["weights"]
    assert all(torch.allclose(kept[name], expected[name], atol=1e-6) for name in expected)
    assert not torch.allclose(kept["hidden.weight"], last, atol=1e-4)


def test_an_interrupted_training_ends_as_the_uninterrupted_one(tmp_path: Path) -> None:
    """The discriminator, Adam's moments and the averages too; batch norm's statistics and noise in the network."""
    planned = with_target(plan("ald_vada", arch="dirt_small", average=0.9, epochs=2, limit=100, batch_size=25))
    whole = train(planned, tmp_path / "whole.pt")
    assert interrupted(planned, tmp_path / "cut.pt", 1, 4, 6) == whole
    assert_equal_weights(tmp_path / "whole.pt", tmp_path / "cut.pt")
    first, second = (checkpoint.read(tmp_path / f"{name}.pt")["helpers"]["discriminator"] for name in ("whole", "cut"))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_the_checkpoint_is_evaluated_on_the_target_in_the_common_shape(
    tmp_path: Path, robench: Callable[..., Ran]
) -> None:
    import numpy as np

    flipped = datasets.load("digits", "test").shaped((1, 10, 10)).images[:].flip(2).numpy()
    labels = datasets.load("digits", "test").labels.numpy()
    np.savez(tmp_path / "flipped.npz", x_train=flipped[:200], y_train=labels[:200], x_test=flipped, y_test=labels)
    target, out = f"npz:{tmp_path}/flipped.npz", tmp_path / "m.pt"
    asked = ("--dataset", "digits", "--target", target, "--epochs", 1, "--limit", 128)
    ran = robench("train", "--defense", "vada", "--arch", "digit_cnn", *asked, "--out", out)
    assert ran.code == 0, ran.err
    card = load_model(out).card
    assert card is not None
    assert (card.shape, card.dataset, card.recipe["source"]) == ([1, 10, 10], target, "digits")
    ran = robench("eval", "--model", out, "--suite", "quick", "--n", 20, "--results", tmp_path / "r", "--format", "csv")
    assert ran.code == 0, ran.err
    assert "pgd-20" in ran.out
    assert "flipped" in ran.err


def test_the_smaller_set_is_brought_to_the_larger_shape(tmp_path: Path) -> None:
    import numpy as np

    x = np.zeros((70, 3, 6, 12), np.uint8)
    np.savez(tmp_path / "wide.npz", x_train=x, y_train=np.arange(70) % 10, x_test=x, y_test=np.arange(70) % 10)
    planned = plan_training("vada", target=f"npz:{tmp_path}/wide.npz")
    assert planned.target is not None
    assert tuple(planned.split.shape) == tuple(planned.target.shape) == (3, 8, 12)
    assert planned.evaluated == f"npz:{tmp_path}/wide.npz@3x8x12"
    assert planned.recipe.settings_of == "digits"


def test_wrong_words_are_one_sentence(robench: Callable[..., Ran], tmp_path: Path) -> None:
    for arguments, message in (
        (("vada",), "name their data set with --target"),
        (("vada", "--target", "mnits"), "did you mean 'mnist'"),
        (("vat", "--labels", 3), "at least a label for each of the 10 classes, got 3"),
        (("vat", "--labels", 0), "labels"),
        (("vat", "--labels", 100, "--norm", "linf", "--eps", 0.5), "defined for l2, not for linf"),
        (("vat", "--set", "mixup=-1"), "at least 0"),
        (("vat", "--set", "drops=[3]"), "drops or an lr_end, not both"),
    ):
        ran = robench("train", "--defense", *arguments, "--out", tmp_path / "m.pt")
        assert ran.code == 2, arguments
        assert message in ran.err, (arguments, ran.err)
        assert ran.err.rstrip().count("robench: ") == 1
