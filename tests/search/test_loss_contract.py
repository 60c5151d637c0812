"""What belongs to an example is given beside the loss, and stays aligned with it however passes are cut."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from robench.losses import cross_entropy, evaluated, margin, targeted_margin
from robench.search.catalog import attack, configure
from robench.search.classifier import Classifier
from robench.search.fast.tuning import Tuning
from robench.search.judge import Judge
from robench.search.resources import Images, Resources, Sources, TrainingImages
from robench.search.rng import Draws
from robench.search.search import Search
from robench.threat import ThreatModel
from robench.training.defense import Batch
from robench.training.inner_max import ascend
from robench.utils import registry
from robench.utils.errors import AttackError, NoGradient
from tests.helpers import linear_case

SETTINGS: dict[str, str] = {
    "adt_exp": "steps=2,samples=3,draws=3",
    "adt_exp_am": "filters=8,epochs=1,draws=2",
    "adt_imp_am": "filters=8,epochs=1,draws=2",
    "apgd": "steps=8,targets=2",
    "apgd-squares": "restarts=1",
    "feature-pooled": "targets=6,steps=4",
    "multi_targeted": "steps=4",
    "rays": "queries=60",
    "spsa-256": "steps=2,evaluations=12",
    "squares": "queries=80",
}
"""Of attacks whose own settings would take long."""

LIBRARIES = {"autoattack", "square", "bb", "foolbox"}
"""Functions that make passes of whole batches, in another way: tested in files of their own."""

NAMES = sorted(
    {
        name
        for name in registry.attack_catalog()
        if name in SETTINGS or name in {"fgsm", "pgd-10", "mim", "cw-20", "transfer-fgsm"}
    }
)


class Uneven(nn.Module):
    """A smooth network whose logits rise and fall steeply; with `room`, out of memory where it is given more rows."""

    def __init__(self, room: int | None = None, message: str = "") -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(64, 24), nn.Tanh())
        self.last = nn.Linear(24, 5)
        self.room, self.message, self.largest = room, message, 0
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.mul_(4)

    def forward(self, x: Tensor) -> Tensor:
        if self.room is not None and len(x) > self.room:
            raise RuntimeError(self.message or "could not create a primitive")
        self.largest = max(self.largest, len(x))
        return self.last(self.body(x))  # type: ignore[no-any-return]


def examples(model: nn.Module, count: int = 20) -> tuple[Tensor, Tensor]:
    x = torch.rand(count, 1, 8, 8, generator=torch.Generator().manual_seed(3))
    return x, model(x).argmax(1)


def searched(name: str, points: int | None, model: nn.Module | None = None) -> tuple[Tensor, ...]:
    """Which of 20 examples are broken with so many points in a pass, where the attack ends on each, and the largest
    margin."""
    x, y = examples(Uneven())
    own = SETTINGS.get(name)
    configured = attack(f"{name}:{own}" if own else name)
    threat = ThreatModel.of("linf", "0.05")
    tuned = Classifier(model or Uneven(), tuning=Tuning(points=points))
    judge = Judge(Classifier(model or Uneven()), threat)
    resources = Resources(Images.of(x.flip(0), y.flip(0)), Sources((Classifier(Uneven()),)), TrainingImages(x, y))
    draws = Draws(0, np.arange(len(x)), x.device)
    outcome = Search(tuned, judge, threat, x, y, draws, access=configured.access, drop=False, resources=resources).run(
        configured, configured.restarts
    )
    assert not outcome.failures
    return outcome.fooled, outcome.last, outcome.margin


@pytest.mark.parametrize("name", NAMES)
def test_an_attack_ends_at_the_same_points_however_its_passes_are_cut(name: str) -> None:
    """And so it does where memory runs out above 16 rows, however the device words that."""
    whole = searched(name, None)
    x, y = examples(Uneven())
    assert (whole[2] > margin(Uneven()(x), y)).any()
    cut = [searched(name, points) for points in (64, 7, 5, 1)]
    cramped = Uneven(room=16)
    for fooled, last, largest in [*cut, searched(name, None, cramped)]:
        assert torch.equal(fooled, whole[0])
        torch.testing.assert_close(last, whole[1], rtol=0, atol=2e-3)
        torch.testing.assert_close(largest, whole[2], rtol=0, atol=1e-2)
    assert cramped.largest <= 16


def test_every_function_of_the_catalog_is_cut_here_or_is_a_librarys() -> None:
    cut = {attack(name).function.__name__ for name in NAMES}
    assert cut >= set(registry.names("attacks", "*.py")) - LIBRARIES


def search_of(count: int = 6, points: int | None = None) -> tuple[Search, Tensor, Tensor]:
    """A search in the middle of a run, its examples' images and labels."""
    model, x, y = linear_case(4, count)
    classifier = Classifier(model, tuning=Tuning(points=points))
    threat = ThreatModel.of("linf", "0.01")
    return Search(classifier, Judge(classifier, threat), threat, x, y, Draws(0, np.arange(count), x.device)), x, y


def weighted(logits: Tensor, y: Tensor, weights: Tensor) -> Tensor:
    return (weights * logits).sum(1)


@pytest.mark.parametrize("points", [None, 4, 1])
def test_what_is_beside_the_loss_is_repeated_split_and_flattened_with_the_points(points: int | None) -> None:
    search, x, _ = search_of(points=points)
    own = torch.rand(6, 3, 4, generator=torch.Generator().manual_seed(1))
    weight: Tensor = search._classifier.model.layer.weight  # type: ignore[union-attr, assignment]
    tries = x[:, None].expand(6, 3, *x.shape[1:])
    for given, of_each in ((own, own), (own[:, :1], own[:, :1].expand_as(own))):
        value, gradient = search.value_and_gradient(tries, weighted, given)
        torch.testing.assert_close(gradient.flatten(2), of_each @ weight)
        torch.testing.assert_close(value, (of_each * search.query(tries)).sum(2))
        torch.testing.assert_close(search.value(tries, weighted, given), value)
    target = torch.tensor([0, 1, 2, 3, 0, 1])
    alike = search.value(tries, targeted_margin, target)  # one for all tries of an example
    torch.testing.assert_close(alike, search.value(x, targeted_margin, target)[:, None].expand(6, 3))


@pytest.mark.parametrize(
    ("beside", "points"),
    [(torch.rand(5, 4), 1), (torch.tensor(1.0), 1), ([1.0] * 6, 1), (torch.rand(6, 4), 3), (torch.rand(18, 4), 3)],
)
def test_a_tensor_of_another_length_is_refused(beside: Any, points: int) -> None:
    search, x, _ = search_of()
    at = x if points == 1 else x[:, None].expand(6, points, *x.shape[1:])
    with pytest.raises(AttackError, match="beside the loss"):
        search.gradient(at, weighted, beside)


def closures(tensor: Tensor) -> dict[str, Callable[..., Tensor]]:
    """Losses that carry a tensor with them, by the way they do."""

    class Holder:
        def __init__(self) -> None:
            self.target = tensor

        def loss(self, logits: Tensor, y: Tensor) -> Tensor:
            return targeted_margin(logits, y, self.target)

        def __call__(self, logits: Tensor, y: Tensor) -> Tensor:
            return targeted_margin(logits, y, self.target)

    def towards(target: Tensor) -> Callable[..., Tensor]:
        return lambda logits, y: targeted_margin(logits, y, target)

    holder, inner, numbers, listed = Holder(), towards(tensor), tensor.numpy(), [tensor]
    return {
        "closure": inner,
        "closure of a closure": lambda logits, y: inner(logits, y),
        "list": lambda logits, y: targeted_margin(logits, y, listed[0]),
        "array": lambda logits, y: targeted_margin(logits, y, torch.from_numpy(numbers)),
        "default": lambda logits, y, target=tensor: targeted_margin(logits, y, target),
        "partial": partial(targeted_margin, target=tensor),
        "method": holder.loss,
        "object": holder,
        "object closed over": lambda logits, y: holder.loss(logits, y),
        "module": nn.CrossEntropyLoss(weight=tensor.float(), reduction="none"),
    }


@pytest.mark.parametrize("way", closures(torch.zeros(6, dtype=torch.int64)))
def test_a_loss_that_carries_a_tensor_is_refused(way: str) -> None:
    """With any number of examples, so that its author learns of it at once."""
    search, x, y = search_of()
    loss = closures(torch.zeros(6, dtype=torch.int64))[way]
    for call in (search.gradient, search.value_and_gradient, search.value):
        with pytest.raises(AttackError, match="beside the loss"):
            call(x, loss)
    with pytest.raises(AttackError, match="beside the loss"):
        ascend(nn.Flatten(), Batch(x, y), loss, start=x, threat=search.threat, steps=1, step_size=0.1)


def test_a_loss_that_closes_over_the_search_or_its_state_is_refused() -> None:
    search, x, _ = search_of()
    at = search.state(target=torch.zeros(6, dtype=torch.int64))
    for loss in (
        lambda logits, y: targeted_margin(logits, y, at.target),
        lambda logits, y: margin(logits, search.y),
    ):
        with pytest.raises(AttackError, match="beside the loss"):
            search.gradient(x, loss)


def test_numbers_words_and_functions_may_be_closed_over() -> None:
    search, x, _ = search_of()
    power, kind = 2.0, {"of": margin}
    found = search.gradient(x, lambda logits, y: power * kind["of"](logits, y))
    torch.testing.assert_close(found, 2 * search.gradient(x, margin))


@pytest.mark.parametrize(
    "loss",
    [
        lambda logits, y: cross_entropy(logits, y).mean(),
        lambda logits, y: cross_entropy(logits, y).sum(0, keepdim=True),
        lambda logits, y: cross_entropy(logits, y)[:, None],
        lambda logits, y: cross_entropy(logits, y)[1:],
        lambda logits, y: 1.0,
        lambda logits, y: logits,
    ],
)
@pytest.mark.parametrize("count", [1, 6])
def test_a_loss_that_is_not_one_value_per_example_is_refused(loss: Any, count: int) -> None:
    search, x, y = search_of(count)
    if count == 1 and isinstance(evaluate := loss(torch.zeros(1, 4), y), Tensor) and evaluate.shape == (1,):
        return  # a sum over one example is its value
    for call in (search.gradient, search.value):
        with pytest.raises(AttackError, match="one value per example"):
            call(x, loss)
    with pytest.raises(AttackError, match="one value per example"):
        evaluated(loss, torch.zeros(count, 4), y)


def test_a_user_attack_that_closes_over_a_tensor_ends_in_an_error_on_any_batch(in_tmp: Any) -> None:
    (in_tmp / "mine.py").write_text(
        "from robench.search import sees\n"
        "from robench.losses import targeted_margin\n"
        '@sees("gradients")\n'
        "def mine(search):\n"
        "    target = (search.y + 1) % search.classes\n"
        "    search.gradient(search.x, lambda logits, y: targeted_margin(logits, y, target))\n"
    )
    configured = configure(registry.attack_function("mine.py"), {}, name="mine")
    for count in (1, 6):
        search, _, _ = search_of(count)
        with pytest.raises(AttackError, match="carries target, a Tensor"):
            search.run(configured)


def test_a_loss_that_leads_nowhere_has_no_gradient() -> None:
    class Detached(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.detach().flatten(1)[:, :4] + 0 * nn.Parameter(torch.ones(4))

    x = torch.rand(3, 1, 2, 2)
    with pytest.raises(NoGradient):
        Classifier(Detached()).logits_and_gradient(x, torch.zeros(3, dtype=torch.int64), cross_entropy)
