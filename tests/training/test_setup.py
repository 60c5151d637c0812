"""The words of a training: what each does, beside torch's own or by hand."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, LRScheduler, MultiStepLR, OneCycleLR

from robench.data import datasets
from robench.evaluation.target import load_model
from robench.models import build
from robench.training import optim, recipe
from robench.training.augment import augment
from robench.training.defense import Batch
from robench.training.loop import train
from robench.training.plan import plan_training
from robench.training.seeds import seed_of
from robench.training.setup import SYNONYMS, Setup
from robench.training.soft_labels import softened
from robench.training.streams import divided, image_weights
from robench.utils.errors import UserError
from tests.training.test_loop import plan, weights

STEPS, EPOCHS = 10, 12


def setup(**changes: Any) -> Setup:
    return Setup(arch="digit_cnn", eps=0.1, epochs=EPOCHS, batch_size=32, lr=0.2, **changes)


def one_cycle(moved: torch.optim.Optimizer) -> LRScheduler:
    return OneCycleLR(moved, max_lr=0.2, total_steps=STEPS * EPOCHS + 1)


def multi_step(moved: torch.optim.Optimizer) -> LRScheduler:
    return MultiStepLR(moved, [3 * STEPS, 7 * STEPS], gamma=0.5)


def cosine(moved: torch.optim.Optimizer) -> LRScheduler:
    return CosineAnnealingLR(moved, STEPS * EPOCHS, eta_min=0.01)


@pytest.mark.parametrize(
    ("changes", "theirs"),
    [
        ({"drops": [3, 7], "drop_factor": 0.5}, multi_step),
        ({"schedule": "drops", "drops": [3, 7], "drop_factor": 0.5}, multi_step),
        ({"lr_end": 0.01}, cosine),
        ({"schedule": "cosine", "lr_end": 0.01}, cosine),
        ({"schedule": "one_cycle"}, one_cycle),
    ],
)
def test_the_learning_rate_is_torchs(
    changes: dict[str, Any], theirs: Callable[[torch.optim.Optimizer], LRScheduler]
) -> None:
    moved = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.2)
    schedule = theirs(moved)
    for step in range(STEPS * EPOCHS):
        expected = moved.param_groups[0]["lr"]
        within = 0.004 if theirs is one_cycle else 1e-9  # torch's ends its rise a step earlier
        assert optim.learning_rate(setup(**changes), step / STEPS) == pytest.approx(expected, rel=0, abs=within), step
        moved.step()
        schedule.step()


def test_the_warm_up_is_linear_from_a_step_above_0() -> None:
    moved = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.2)
    schedule = LinearLR(moved, start_factor=1 / 20, end_factor=1.0, total_iters=19)
    for step in range(40):
        ours = optim.learning_rate(setup(lr_warmup=2), step / STEPS, 1 / STEPS)
        assert ours == pytest.approx(moved.param_groups[0]["lr"])
        moved.step()
        schedule.step()


@pytest.mark.parametrize(
    ("changes", "kind", "beta"),
    [
        ({}, torch.optim.SGD, None),
        ({"optimizer": "sgd"}, torch.optim.SGD, None),
        ({"adam_beta1": 0.5}, torch.optim.Adam, 0.5),
        ({"optimizer": "adam"}, torch.optim.Adam, 0.9),
        ({"optimizer": "adamw", "adam_beta1": 0.0}, torch.optim.AdamW, 0.0),
    ],
)
def test_the_optimizer_is_the_one_asked_for(changes: dict[str, Any], kind: type, beta: float | None) -> None:
    made = optim.optimizer(setup(weight_decay=0.01, **changes), nn.Linear(2, 2))
    assert type(made) is kind
    assert made.defaults["weight_decay"] == 0.01
    if beta is not None:
        assert made.defaults["betas"] == (beta, 0.999)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"learning_rate": 0.1}, "did you mean 'lr'"),
        ({"scheduler": "cosine"}, "did you mean 'schedule'"),
        ({"ema": 0.99}, "did you mean 'average'"),
        ({"cutout": 8}, "did you mean 'augment'"),
        ({"early_stopping": 3}, "did you mean 'patience'"),
        ({"schedule": "cosine", "drops": [3]}, "only the schedule drops has drops"),
        ({"mixup_alpha": 1.0, "cutmix_alpha": 1.0}, "not by both"),
        ({"average": 0.9, "swa_from": 1}, "not both"),
        ({"swa_from": 99}, "beyond the last epoch"),
        ({"optimizer": "sgd", "adam_beta1": 0.5}, "sgd has no adam_beta1"),
        ({"optimizer": "lion"}, "'sgd', 'adam' or 'adamw'"),
        ({"patience": 2, "holdout": 0}, "needs images held out"),
        ({"accumulation": 1000}, "exceeds the batch_size"),
        ({"label_smoothing": 1.5}, "less than 1"),
        ({"clip_gradient": -1}, "greater than 0"),
    ],
)
def test_a_word_that_cannot_be_meant_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        recipe.resolve("pgd_at", "digits", (1, 8, 8), changes)


def test_synonyms_lead_to_settings() -> None:
    assert set(SYNONYMS.values()) <= set(Setup.model_fields)
    assert not set(SYNONYMS) & set(Setup.model_fields)


def test_a_schedule_takes_the_place_of_the_recipes_drops() -> None:
    assert recipe.resolve("pgd_at", "digits", (1, 8, 8), {}).setup.drops
    assert recipe.resolve("pgd_at", "digits", (1, 8, 8), {"schedule": "cosine"}).setup.drops == []


def test_words_that_are_not_asked_for_change_no_key() -> None:
    described = recipe.resolve("pgd_at", "digits", (1, 8, 8), {}).describe()["setup"]
    assert not {"optimizer", "schedule", "mixup_alpha", "patience", "extra_data", "accumulation"} & set(described)


def test_labels_are_smoothed_and_mixed() -> None:
    x, y = torch.rand(6, 1, 8, 8), torch.tensor([0, 1, 2, 3, 4, 4])
    plain = softened(Batch(x, y), setup(), 5)
    assert plain.y is y
    smooth = softened(Batch(x, y), setup(label_smoothing=0.1), 5).y
    assert torch.allclose(smooth.gather(1, y[:, None]), torch.tensor(0.92))
    assert torch.allclose(smooth.sum(1), torch.ones(6))
    logits = torch.randn(6, 5)
    expected = nn.functional.cross_entropy(logits, y, label_smoothing=0.1)
    assert torch.allclose(nn.functional.cross_entropy(logits, smooth), expected)
    for words in ({"mixup_alpha": 1.0}, {"cutmix_alpha": 1.0}):
        torch.manual_seed(3)
        mixed = softened(Batch(x, y), setup(**words), 5)
        assert torch.allclose(mixed.y.sum(1), torch.ones(6))
        assert (mixed.y.max(1).values < 0.999).any()
    torch.manual_seed(3)
    mixed = softened(Batch(x, y), setup(mixup_alpha=1.0), 5)
    share = mixed.y[0, 0]  # with the image before it in the batch, of class 4
    assert torch.allclose(mixed.x[0], share * x[0] + (1 - share) * x[5], atol=1e-6)


@pytest.mark.parametrize("name", ["mart", "adt_exp", "bilateral"])
def test_a_defense_of_whole_labels_refuses_shares(name: str) -> None:
    with pytest.raises(UserError, match=f"{name} needs whole labels.*mixup_alpha"):
        plan(name, mixup_alpha=1.0)


SOFT = [name for name in recipe.names() if recipe.resolve(name, "digits", (1, 8, 8), {}).defense.soft_labels]


@pytest.mark.parametrize("name", SOFT)
def test_a_defense_of_soft_labels_trains_on_them(name: str, tmp_path: Path) -> None:
    train(plan(name, epochs=1, limit=128, label_smoothing=0.1, mixup_alpha=0.5), tmp_path / "m.pt")


def test_cutout_leaves_a_square_of_half_the_height_out() -> None:
    holes = augment(torch.ones(200, 3, 16, 16), ["cutout"], torch.Generator().manual_seed(0)) == 0
    sizes = holes[:, 0].flatten(1).sum(1)
    assert int(sizes.max()) == 64
    assert 16 <= int(sizes.min()) < 64  # over an edge
    assert torch.equal(holes[:, 0], holes[:, 2])
    assert len({tuple(hole.flatten().tolist()) for hole in holes[:, 0]}) > 100


def test_parts_of_a_batch_add_up_to_it(tmp_path: Path) -> None:
    """Without batch norm the weights are those of whole batches, but for rounding; the draws are the same."""
    for name, parts in (("whole", None), ("parts", 3)):
        words = {} if parts is None else {"accumulation": parts}
        train(plan("trades", epochs=1, augment=["crop", "flip"], **words), tmp_path / f"{name}.pt")
    whole, parted = weights(tmp_path / "whole.pt"), weights(tmp_path / "parts.pt")
    assert any(not torch.equal(whole[name], parted[name]) for name in whole)
    for name in whole:
        assert torch.allclose(whole[name], parted[name], atol=1e-4), name


def test_parts_are_refused_where_the_whole_is_needed(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="awp looks across the batch"):
        train(plan("awp", accumulation=2), tmp_path / "m.pt")


def test_a_gradient_is_cut_to_its_longest_norm(tmp_path: Path) -> None:
    words: dict[str, Any] = {"momentum": 0.0, "weight_decay": 0.0, "lr": 1.0, "limit": 64, "eps_warmup": 0, "drops": []}
    train(plan("standard", clip_gradient=1e-3, epochs=1, **words), tmp_path / "m.pt")
    torch.manual_seed(seed_of(0, "weights", 0))
    before = build("digit_cnn", (1, 8, 8), 10).state_dict()
    moved = torch.cat([(each - before[name]).flatten() for name, each in weights(tmp_path / "m.pt").items()])
    assert float(moved.norm()) == pytest.approx(1e-3, rel=1e-3)


def test_swa_keeps_the_mean_of_the_weights_at_the_ends_of_epochs(tmp_path: Path) -> None:
    words: dict[str, Any] = {"select": "last", "limit": 128, "drops": [], "eps_warmup": 0}
    for epochs in (2, 3):
        train(plan("standard", **words, epochs=epochs), tmp_path / f"{epochs}.pt")
    train(plan("standard", **words, epochs=3, swa_from=1), tmp_path / "mean.pt")
    ends, mean = [weights(tmp_path / f"{epochs}.pt") for epochs in (2, 3)], weights(tmp_path / "mean.pt")
    for name in mean:
        assert torch.allclose(mean[name], (ends[0][name] + ends[1][name]) / 2, atol=1e-6), name


def test_swa_takes_batch_norms_statistics_under_the_mean(tmp_path: Path) -> None:
    planned = plan("standard", epochs=2, limit=64, swa_from=0, select="last", arch="dirt_small", batch_size=32)
    train(planned, tmp_path / "m.pt")
    model = load_model(tmp_path / "m.pt").model
    layer = next(each for each in model.modules() if isinstance(each, nn.BatchNorm2d))
    seen: list[Tensor] = []
    layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].mean((0, 2, 3))))
    rows, _ = divided(len(planned.split), 100, 64)
    model(planned.split.floats(rows))
    assert layer.running_mean is not None
    assert torch.allclose(layer.running_mean, seen[0], atol=1e-5)


def test_patience_ends_a_training(tmp_path: Path) -> None:
    """The learning rate becomes so high at the third epoch that nothing learned is left."""
    words: dict[str, Any] = {
        "epochs": 12,
        "lr": 0.05,
        "eps_warmup": 0,
        "drops": [2],
        "drop_factor": 60,
        "clip_gradient": 1.0,
    }
    card = train(plan("standard", limit=None, select="clean", patience=3, **words), tmp_path / "m.pt")
    best = card.metrics["best"]["epoch"]
    assert len(card.metrics["history"]) == best + 3 < 12


def test_classes_are_drawn_by_their_weights() -> None:
    labels = torch.tensor([0] * 90 + [1] * 10)
    balanced = image_weights(labels, "balanced")
    assert balanced is not None
    assert float(balanced[:90].sum()) == pytest.approx(float(balanced[90:].sum()))
    with pytest.raises(UserError, match="expected class_weights of 2 numbers"):
        image_weights(labels, [1.0, 2.0, 3.0])
    with pytest.raises(UserError, match="expected class_weights of 2 numbers"):
        image_weights(labels, [float("nan"), 1.0])


def test_extra_data_is_trained_on_and_never_held_out(in_tmp: Path) -> None:
    test = datasets.load("digits", "test")
    np.savez("more.npz", x_train=test.images[:].numpy(), y_train=test.labels.numpy())
    planned = plan_training("standard", settings={"extra_data": "npz:more.npz", "epochs": 1})
    assert planned.extra is not None
    assert len(planned.extra) == 500
    alone = plan_training("standard", settings={"epochs": 1})
    assert planned.key()["data"] == [*alone.key()["data"], planned.extra.fingerprint]
    train(planned, in_tmp / "m.pt")
    with pytest.raises(UserError, match="neither labels nor a target"):
        plan_training("standard", settings={"extra_data": "npz:more.npz", "labels": 100})
    np.savez("wide.npz", x_train=np.zeros((4, 1, 9, 9), dtype=np.uint8), y_train=np.arange(4))
    with pytest.raises(UserError, match="expected images of shape"):
        plan_training("standard", settings={"extra_data": "npz:wide.npz"})
