"""Faster passes: they change rounding only, and what they find is confirmed on the model as loaded."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from robench.evaluation.plan import EvaluationOptions, plan_evaluation
from robench.evaluation.run import evaluate
from robench.ledger.schema import CLEAN, DIAGNOSIS
from robench.ledger.store import Ledger
from robench.losses import cross_entropy
from robench.models import build
from robench.models.network import Network
from robench.search import sees
from robench.search.catalog import attack
from robench.search.classifier import Classifier
from robench.search.fast.first_layer import ByProducts
from robench.search.fast.tuning import Tuning, tune
from robench.search.judge import Judge
from robench.search.outcome import Outcome
from robench.search.rng import Draws
from robench.search.search import Search
from robench.specs.choices import Precision
from robench.threat import ThreatModel
from robench.utils.errors import UserError
from tests.helpers import Linear, Ran, Trained, images, linear_case, with_statistics

RUN = {"started": "2026-01-01T00:00:00"}


class Residual(nn.Module):
    """A convolution whose result goes to a batch norm, and, where `shared`, past it."""

    def __init__(self, shared: bool) -> None:
        super().__init__()
        self.shared = shared
        self.first, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.last = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        out = self.first(x)
        normed = self.norm(out).relu()
        return self.last((normed + out if self.shared else normed).mean((2, 3)))  # type: ignore[no-any-return]


HEAVY: dict[str, Any] = {"light": 0, "sizes": (16,)}
"""Has `tune` take any model for heavy, and try one number of points."""


def test_a_norm_is_not_folded_where_something_else_needs_the_convolution() -> None:
    torch.manual_seed(0)
    x = images((3, 8, 8))
    assert tune(with_statistics(Residual(shared=False)), x, "float32", light=0).folds == (("first", "norm"),)
    assert tune(with_statistics(Residual(shared=True)), x, "float32", light=0).folds == ()


def test_a_light_model_is_not_timed(digits_model: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it gets does not depend on the machine's mood."""
    timed: dict[str, Any] = {"clock": lambda device: pytest.fail("timed")}
    x = digits_model.split.floats(slice(4))
    found = tune(digits_model.model, x, **timed)
    assert found == Tuning(first=found.first, channels_last=True, products=True, pool_first=True)
    assert isinstance(digits_model.model.get_submodule(found.first), nn.Conv2d)
    low = tune(digits_model.model, x, "bfloat16", **timed)
    assert low == replace(found, precision="bfloat16")
    assert tune(linear_case(3)[0].requires_grad_(False), linear_case(3)[1], **timed) == Tuning()
    monkeypatch.setattr(ByProducts, "gradient", lambda self, given, shape: torch.zeros(shape))
    assert tune(digits_model.model, x, **timed) == Tuning()


def test_a_heavy_model_is_tuned_and_gives_about_the_same_gradients() -> None:
    torch.manual_seed(0)
    model, x = with_statistics(build("resnet18", (3, 8, 8), 10)), images((3, 8, 8), 4)
    y = model(x).argmax(1)
    logits, gradient = Classifier(model).logits_and_gradient(x, y, cross_entropy)
    precisions: tuple[Precision, ...] = ("float32", "bfloat16")
    for precision, close in zip(precisions, (1e-3, 0.2), strict=True):
        found = tune(model, x, precision, light=0, sizes=(4,))
        assert found.precision == precision
        assert len(found.folds) == 20
        assert found.first == "conv1"
        for each in (found, replace(found, channels_last=True, products=True)):
            fast = Classifier(model, tuning=each)
            fast_logits, fast_gradient = fast.logits_and_gradient(x, y, cross_entropy)
            assert fast_logits.dtype == fast_gradient.dtype == torch.float32
            assert float((fast_logits - logits).abs().max() / logits.abs().max()) < close / 4
            assert float((fast_gradient - gradient).norm() / gradient.norm()) < close
            features, true = (one.features(x, "pooled")[0] for one in (fast, Classifier(model)))
            assert float((features - true).abs().max() / true.abs().max()) < close


class Particular(nn.Module):
    """Takes nothing but float32."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layer(x.flatten(1))
        if out.dtype != torch.float32:
            raise RuntimeError("float32 only")
        return out


def test_a_model_that_cannot_do_with_less_precision_keeps_float32() -> None:
    model, x = Particular().eval().requires_grad_(False), images((1, 4, 4))
    assert tune(model, x, **HEAVY).precision == "float32"
    with pytest.raises(UserError, match="cannot be searched in bfloat16"):
        tune(model, x, "bfloat16", **HEAVY)


class Odd(nn.Module):
    """A heavy model that does something odd with what it is given, or with its layers."""

    def __init__(self, oddity: str) -> None:
        super().__init__()
        self.oddity = oddity
        self.conv, self.norm, self.head = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Linear(4 * 36, 3)
        if oddity == "weight norm":
            self.conv = nn.utils.parametrizations.weight_norm(self.conv)

    def forward(self, x: Tensor) -> Tensor:
        if self.oddity == "in place":
            x.sub_(0.5).mul_(2)
        if self.oddity == "reads its layers" and self.conv.weight.shape[1] != self.norm.num_features // 4:
            raise AttributeError("no such layer")
        out = self.norm(input=self.conv(x)) if self.oddity == "keywords" else self.norm(self.conv(x))
        logits: Tensor = self.head(out.relu().flatten(1))
        if self.oddity == "no gradient":
            logits = logits.detach()
        if self.oddity == "not finite":
            logits = torch.where(x.flatten(1)[:, :1] > 0.9, torch.nan, logits)
        return logits


@pytest.mark.parametrize("precision", ["auto", "float32"])
@pytest.mark.parametrize(
    "oddity", ["in place", "reads its layers", "keywords", "no gradient", "not finite", "weight norm", "none"]
)
def test_an_odd_model_is_searched_as_it_is_where_it_must_be(oddity: str, precision: Precision) -> None:
    torch.manual_seed(0)
    model, x = with_statistics(Odd(oddity)), images((1, 8, 8))
    found = tune(model, x, precision, **HEAVY)
    assert bool(found.folds) == (oddity in ("in place", "not finite", "none"))
    logits, y = model(x.clone()), torch.zeros(16, dtype=torch.int64)
    classifier = Classifier(model, tuning=found)
    with torch.no_grad():
        torch.testing.assert_close(classifier.logits(x), logits, rtol=0.05, atol=0.05, equal_nan=True)
    if oddity not in ("no gradient", "not finite"):
        assert classifier.logits_and_gradient(x, y, cross_entropy)[1].abs().sum() > 0


@pytest.mark.parametrize("hook", ["forward", "pre", "backward"])
def test_a_first_layer_with_hooks_keeps_its_gradient(hook: str) -> None:
    """A hook changes the gradient, which nothing that stands for the layer would know."""
    torch.manual_seed(0)
    model, x, y = with_statistics(Odd("none")), images((1, 8, 8)), torch.zeros(16, dtype=torch.int64)
    layer = model.get_submodule("conv")
    if hook == "forward":
        layer.register_forward_hook(lambda _, inputs, output: output.relu())
    elif hook == "pre":
        layer.register_forward_pre_hook(lambda _, inputs: (torch.sin(20 * inputs[0]),))
    else:
        layer.register_full_backward_hook(lambda _, inputs, outputs: (torch.neg(inputs[0]),))  # type: ignore[index]
    tuned = Classifier(model, tuning=tune(model, x, "float32", **HEAVY))
    true = Classifier(model).logits_and_gradient(x, y, cross_entropy)[1]
    torch.testing.assert_close(tuned.logits_and_gradient(x, y, cross_entropy)[1], true, rtol=1e-3, atol=1e-5)


def test_a_tuning_that_changes_the_gradient_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ByProducts, "gradient", lambda self, given, shape: torch.zeros(shape))
    torch.manual_seed(0)
    assert not tune(with_statistics(Odd("none")), images((1, 8, 8)), "float32", **HEAVY).products


class Purifying(nn.Module):
    """Moves its input by its own gradient, and lets gradients flow through that."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(1, 4, 3), nn.Linear(4 * 36, 3)

    def logits(self, x: Tensor) -> Tensor:
        return self.head(self.conv(x).tanh().flatten(1))  # type: ignore[no-any-return]

    def forward(self, x: Tensor) -> Tensor:
        with torch.enable_grad():
            x = x if x.requires_grad else x.detach().requires_grad_()
            (slope,) = torch.autograd.grad(self.logits(x).logsumexp(1).sum(), x, create_graph=True)
            return self.logits(x + 20 * slope)


def test_a_model_that_differentiates_itself_keeps_its_gradient() -> None:
    torch.manual_seed(0)
    model, x, y = Purifying().requires_grad_(False), images((1, 8, 8)), torch.zeros(16, dtype=torch.int64)
    true = Classifier(model).logits_and_gradient(x, y, cross_entropy)[1]
    by_products = Classifier(model, tuning=Tuning(first="conv", products=True))
    torch.testing.assert_close(by_products.logits_and_gradient(x, y, cross_entropy)[1], true)


def test_pooling_does_not_go_first_where_it_shows() -> None:
    class Parted(Network):
        smallest = 4

        def __init__(self) -> None:
            super().__init__((1, 8, 8), 3)
            self.chain = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(2))
            self.last = nn.Linear(4 * 9, 3)

        def feature_map(self, x: Tensor) -> Tensor:
            return self.chain[:2](x)  # type: ignore[no-any-return]

        def pool(self, feature_map: Tensor) -> Tensor:
            return self.chain[2:](feature_map).flatten(1)  # type: ignore[no-any-return]

        def head(self, features: Tensor) -> Tensor:
            return self.last(features)  # type: ignore[no-any-return]

    torch.manual_seed(0)
    x = images((1, 8, 8))
    assert not tune(Parted().requires_grad_(False), x, "float32", **HEAVY).pool_first
    small = build("small_cnn", (1, 28, 28), 10).eval().requires_grad_(False)
    assert tune(small, images((1, 28, 28)), **HEAVY).pool_first


def test_what_tells_classes_apart_must_survive_low_precision() -> None:
    """Not the largest logit: a number common to all of them hides that bfloat16 loses the differences."""
    model, x, _ = linear_case(3, examples=16)
    raised = Linear(model.layer.weight, model.layer.bias + 1000).eval().requires_grad_(False)
    assert tune(raised, x, **HEAVY).precision == "float32"


def test_a_pass_is_no_larger_than_the_batch_it_is_for() -> None:
    model, x, _ = linear_case(3, examples=16)
    cramped = Cramped(model.layer.weight, model.layer.bias).eval().requires_grad_(False)
    cramped.room = 16
    found = tune(cramped, x, "float32", 8, light=0)
    assert found.points is not None
    assert found.points <= 8
    cramped.room = 1
    assert tune(cramped, x, light=0).points == 1
    cramped.room = 0
    with pytest.raises(torch.OutOfMemoryError):  # no tuning finds room for an image
        tune(cramped, x, light=0)


def test_a_tuning_survives_its_json() -> None:
    found = Tuning("bfloat16", "conv1", (("conv1", "bn1"),), True, 32, 4, True, True)
    assert Tuning.of_json(found.to_json()) == found


class Cramped(Linear):
    """Has memory for eight images."""

    room = 8

    def forward(self, x: Tensor) -> Tensor:
        if len(x) > self.room:
            raise torch.OutOfMemoryError("no room")
        return super().forward(x)


def test_a_pass_that_does_not_fit_is_halved_until_it_does() -> None:
    model, x, y = linear_case(3, examples=20)
    cramped = Cramped(model.layer.weight, model.layer.bias)
    classifier, plain = Classifier(cramped), Classifier(model)
    found, expected = (each.logits_and_gradient(x, y, cross_entropy) for each in (classifier, plain))
    torch.testing.assert_close(found, expected)
    assert classifier.points == 5
    assert (classifier.forwards, classifier.backwards) == (20, 20)
    with torch.no_grad():
        torch.testing.assert_close(classifier.logits(x), plain.logits(x))
        torch.testing.assert_close(classifier.features(x, "pooled"), plain.features(x, "pooled"))
    weights = torch.randn(20, 1, generator=torch.Generator().manual_seed(0))
    of_features = [
        each.differentiate(x, y, lambda features, y, aim: (features * aim).sum(1), weights, of="pooled")
        for each in (Classifier(cramped), plain)
    ]
    torch.testing.assert_close(*of_features)
    cramped.room = 0
    with pytest.raises(torch.OutOfMemoryError):
        Classifier(cramped).logits_and_gradient(x, y, cross_entropy)


def searched(
    trained: Trained, found: Tuning, name: str = "pgd-10", *, n: int = 120, eps: float = 0.08, drop: bool = True
) -> tuple[Outcome, Judge]:
    loaded, threat = Classifier(trained.model), ThreatModel.of("linf", eps)
    judge = Judge(loaded, threat)
    x, y = trained.split.floats(slice(n)), trained.split.labels[:n]
    draws = Draws(0, np.arange(n), x.device)
    searcher = Classifier(trained.model, tuning=found)
    return Search(searcher, judge, threat, x, y, draws, loaded=loaded, drop=drop).run(attack(name)), judge


@pytest.mark.parametrize("drop", [True, False])
def test_low_precision_finds_what_float32_finds_and_claims_nothing_else(digits_model: Trained, drop: bool) -> None:
    low, judge = searched(digits_model, Tuning("bfloat16", "", points=32), drop=drop)
    full, _ = searched(digits_model, Tuning(), drop=drop)
    assert 20 < int(full.fooled.sum()) < 110
    assert int((low.fooled != full.fooled).sum()) <= 4
    x, y = digits_model.split.floats(slice(120)), digits_model.split.labels[:120]
    verdicts = judge(low.kept, x, y)
    assert torch.equal(verdicts.fooled, low.fooled)
    for name in ("fooled", "prediction", "margin", "distance", "unstable"):
        assert torch.equal(getattr(verdicts, name), getattr(low.verdicts, name)), name  # no candidate is judged twice


@pytest.mark.parametrize("drop", [True, False])
def test_rarer_looks_of_the_judge_find_the_same(digits_model: Trained, drop: bool) -> None:
    often, _ = searched(digits_model, Tuning(), drop=drop)
    rarely, _ = searched(digits_model, Tuning(patience=4), drop=drop)
    for name in ("fooled", "kept", "margin", "first_step"):
        assert torch.equal(getattr(often, name), getattr(rarely, name)), name
    assert (rarely.forwards >= often.forwards).all()
    assert bool((rarely.forwards > often.forwards).any()) == drop


class Shifted(nn.Module):
    """Another model's logits, that of the first class raised."""

    def __init__(self, model: nn.Module, by: float) -> None:
        super().__init__()
        self.model, self.by = model, by

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.model(x).clone()
        logits[:, 0] += self.by
        return logits


@sees("gradients")
def one_step(search: Search) -> None:
    gradient = search.gradient(search.x, cross_entropy)
    search.offer(search.project(search.x + search.eps * search.steepest(gradient)))


def test_what_the_search_does_not_notice_the_judge_sees_at_the_end() -> None:
    """The searcher gives the true class more than it has, so nothing fools it."""
    model, x, y = linear_case(2, examples=40)
    x, y = x[y == 0], y[y == 0]
    threat = ThreatModel.of("linf", 0.1)
    judge = Judge(Classifier(model), threat)
    search = Search(Classifier(Shifted(model, 100.0)), judge, threat, x, y, Draws(0, np.arange(len(x)), x.device))
    assert search.run(one_step).fooled.all()


def test_the_tuning_is_frozen_with_the_rows_it_made(
    digits_model: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_evaluation(
        digits_model.model, EvaluationOptions(attacks=["pgd-10"], eps=0.08, precision="bfloat16", n=20)
    )
    first = evaluate(plan, Ledger(tmp_path), RUN)
    assert first["pgd-10"].run["tuning"]["precision"] == "bfloat16"
    assert first[DIAGNOSIS].run["tuning"]["precision"] == "bfloat16"
    assert "tuning" not in first[CLEAN].run
    monkeypatch.setattr("robench.evaluation.evaluation.tune", lambda *_: pytest.fail("probed again"))
    more = evaluate(replace(plan, n=40), Ledger(tmp_path), RUN)
    assert len(more["pgd-10"].rows()) == 40
    monkeypatch.undo()
    other = evaluate(replace(plan, precision="float32"), Ledger(tmp_path), RUN)
    assert other["pgd-10"].path != first["pgd-10"].path
    assert other[CLEAN].path == first[CLEAN].path


def test_a_wrong_precision_is_one_sentence(robench: Callable[..., Ran], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="unknown precision"):
        plan_evaluation(nn.Linear(1, 1), EvaluationOptions(precision="half"))  # type: ignore[arg-type]
    ran = robench("eval", "--model", "nowhere.pt", "--precision", "half")
    assert ran.code == 2
    assert "half" in ran.err
