"""The attacks against what is known: closed forms, other implementations, and themselves in other batches."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from robench.search import sees
from robench.search.search import Search
from robench.threat import ThreatModel
from tests.helpers import Trained, equidistant, hadamard_case, linear_case, minimal_eps, run_attack

GRADIENT_ATTACKS = ["fgsm", "fgsm_rs", "pgd-20", "mim", "cw-30"]
FROM_RANDOM_STARTS = ["fgsm_rs", "pgd-20", "mim", "cw-30"]


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("name", ["fgsm", "pgd-40", "mim", "cw-40"])
def test_a_binary_linear_model_falls_just_beyond_its_margin_and_not_before(name: str, norm: str) -> None:
    model, x, _ = linear_case(2, examples=23)
    x, y, eps = equidistant(model, x, norm)
    assert run_attack(name, model, x, y, ThreatModel.of(norm, 1.01 * eps)).fooled.all()
    assert not run_attack(name, model, x, y, ThreatModel.of(norm, 0.99 * eps)).fooled.any()


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("name", [*GRADIENT_ATTACKS, "pgd-100"])
def test_no_attack_goes_beyond_the_bound_of_a_ten_class_linear_model(name: str, norm: str) -> None:
    model, x, y = linear_case(10, examples=20)
    eps = 1.3 * float(minimal_eps(model, x, y, norm).median())
    breakable = minimal_eps(model, x, y, norm) < eps
    outcome = run_attack(name, model, x, y, ThreatModel.of(norm, eps))
    assert not (outcome.fooled & ~breakable).any()
    assert outcome.fooled.any()


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_cw_meets_the_bound_of_a_ten_class_linear_model(norm: str) -> None:
    model, x, _ = hadamard_case(39)
    x, y, eps = equidistant(model, x, norm)
    assert len(set(y.tolist())) > 4
    assert run_attack("cw-40:random_start=false", model, x, y, ThreatModel.of(norm, 1.01 * eps)).fooled.all()
    assert not run_attack("cw-40", model, x, y, ThreatModel.of(norm, 0.99 * eps)).fooled.any()


@pytest.mark.parametrize("name", GRADIENT_ATTACKS)
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_what_an_attack_claims_survives_independent_scoring(name: str, norm: str, digits_model: Trained) -> None:
    split, eps = digits_model.split, 0.1 if norm == "linf" else 0.6
    x, y = split.floats(slice(60)), split.labels[:60]
    outcome = run_attack(name, digits_model.model, x, y, ThreatModel.of(norm, eps))
    kept = outcome.kept.double()
    difference = (kept - x.double()).flatten(1)
    distance = difference.abs().amax(1) if norm == "linf" else difference.norm(dim=1)
    assert kept.min() >= 0
    assert kept.max() <= 1
    assert distance.max() <= eps * (1 + 1e-6) + 1e-6
    wrong = digits_model.model(outcome.kept).argmax(1) != y
    assert torch.equal(wrong, outcome.fooled)
    assert int(wrong.sum()) > 10
    assert not outcome.invalid.any()


@pytest.mark.parametrize("name", GRADIENT_ATTACKS)
@pytest.mark.parametrize("size", [1, 3, 17])
def test_batches_and_order_change_nothing(name: str, size: int, digits_model: Trained) -> None:
    x, y = digits_model.split.floats(slice(34)), digits_model.split.labels[:34]
    threat = ThreatModel.of("linf", 0.08)
    whole = run_attack(name, digits_model.model, x, y, threat).fooled
    assert 0 < int(whole.sum()) < 34
    order = np.random.default_rng(1).permutation(34)[: 12 * size]
    for begin in range(0, len(order), size):
        ids = order[begin : begin + size]
        part = run_attack(name, digits_model.model, x[ids], y[ids], threat, ids=ids.tolist())
        assert torch.equal(part.fooled, whole[ids])


@pytest.mark.parametrize("name", FROM_RANDOM_STARTS)
def test_seeds_change_the_search(name: str, digits_model: Trained) -> None:
    x, y = digits_model.split.floats(slice(8)), digits_model.split.labels[:8]
    threat = ThreatModel.of("linf", 0.02)
    first, second = (run_attack(name, digits_model.model, x, y, threat, seed=seed).kept for seed in (0, 1))
    assert not torch.equal(first, second)


def reference_ascent(
    name: str, model: nn.Module, x: Tensor, y: Tensor, start: Tensor, eps: float, steps: int
) -> tuple[Tensor, list[Tensor]]:
    """The attacks again, in plain torch with nobody leaving, from the same start (linf, step eps/4): who fell, and all
    iterates."""
    x_adv, momentum = start.clone(), torch.zeros_like(x)
    wrong, iterates = torch.zeros(len(x), dtype=torch.bool), []
    for step in range(steps + 1):
        iterates.append(x_adv.detach().clone())
        x_adv.requires_grad_()
        logits = model(x_adv)
        wrong |= logits.argmax(1) != y
        if step == steps:
            break
        if name == "cw":
            others = logits.masked_fill(nn.functional.one_hot(y, logits.shape[1]).bool(), -torch.inf)
            loss = (others.max(1).values - logits[torch.arange(len(y)), y]).sum()
        else:
            loss = nn.functional.cross_entropy(logits, y, reduction="sum")
        (direction,) = torch.autograd.grad(loss, x_adv)
        if name == "mim":
            momentum = momentum + direction / direction.abs().mean((1, 2, 3), keepdim=True)
            direction = momentum
        x_adv = (x_adv.detach() + eps / 4 * direction.sign()).clamp(x - eps, x + eps).clamp(0, 1)
    return wrong, iterates


@pytest.mark.parametrize(("name", "steps"), [("pgd", 20), ("cw", 30), ("mim", 20)])
def test_iterates_are_those_of_plain_loops_and_dropping_changes_no_outcome(
    name: str, steps: int, digits_model: Trained
) -> None:
    x, y = digits_model.split.floats(slice(100)), digits_model.split.labels[:100]
    threat = ThreatModel.of("linf", 0.06)
    starts: list[Any] = []

    @sees("gradients")
    def spy(search: Search) -> None:
        starts.append(search.random_start())

    run_with(spy, digits_model.model, x, y, threat)
    catalogued = name if name == "mim" else f"{name}-{steps}"
    ours = run_attack(catalogued, digits_model.model, x, y, threat).fooled
    theirs, iterates = reference_ascent(name, digits_model.model, x, y, starts[0], 0.06, steps)
    assert torch.equal(ours, theirs)
    assert 10 < int(ours.sum()) < 90

    asked: list[Tensor] = []
    hook = digits_model.model.register_forward_pre_hook(lambda _, inputs: asked.append(inputs[0].detach().clone()))
    run_attack(catalogued, digits_model.model, x, y, threat, drop=False)
    hook.remove()
    asked = [points for points in asked if len(points) == len(x)]
    assert len(asked) == len(iterates) == steps + 1
    for point, iterate in zip(asked[:8], iterates[:8], strict=True):  # later ones drift apart where a sign is a toss-up
        assert ((point - iterate).abs() > 1e-6).float().mean() < 0.002


def run_with(function: Any, model: nn.Module, x: Any, y: Any, threat: ThreatModel) -> None:
    from robench.search.classifier import Classifier
    from robench.search.judge import Judge
    from robench.search.rng import Draws

    classifier = Classifier(model)
    judge = Judge(classifier, threat)
    Search(classifier, judge, threat, x, y, Draws(0, np.arange(len(x)), x.device)).run(function)


def test_pgd_agrees_with_foolbox_and_is_at_least_as_strong(digits_model: Trained) -> None:
    import foolbox

    x, y = digits_model.split.floats(slice(300)), digits_model.split.labels[:300]
    eps, model = 0.07, foolbox.PyTorchModel(digits_model.model, bounds=(0, 1))
    theirs = ours = 0
    for seed in range(3):
        torch.manual_seed(seed)
        _, _, success = foolbox.attacks.LinfPGD(abs_stepsize=eps / 4, steps=20)(model, x, y, epsilons=eps)
        fooled = run_attack("pgd-20", digits_model.model, x, y, ThreatModel.of("linf", eps), seed=seed).fooled
        assert abs(int(fooled.sum()) - int(success.sum())) <= 3  # 1 point of 300
        theirs, ours = theirs + int(success.sum()), ours + int(fooled.sum())
    assert 90 < theirs < 810
    assert ours >= theirs - 1


@pytest.mark.parametrize(
    ("name", "forwards", "backwards"),
    [("fgsm", 2, 1), ("pgd-20", 21, 20), ("mim", 21, 20), ("cw-30", 31, 30), ("pgd-10:restarts=3", 33, 30)],
)
def test_passes_are_the_floor_for_those_who_stand(name: str, forwards: int, backwards: int) -> None:
    model, x, y = linear_case(2)
    outcome = run_attack(name, model, x, y, ThreatModel.of("linf", 1e-4))
    assert not outcome.fooled.any()
    assert outcome.forwards.tolist() == [forwards] * len(x)
    assert outcome.backwards.tolist() == [backwards] * len(x)


def test_the_fallen_cost_no_more_passes() -> None:
    model, x, y = linear_case(2)
    outcome = run_attack("pgd-100", model, x, y, ThreatModel.of("linf", 0.4))
    assert outcome.fooled.all()
    assert int(outcome.forwards.max()) < 20
    assert torch.equal(outcome.forwards, outcome.first_step + 1)
