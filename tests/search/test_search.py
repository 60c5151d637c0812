"""What the search lets pass, what it catches, and what it keeps in step with its examples."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from robench.losses import cross_entropy, margin
from robench.search import sees
from robench.search.classifier import Classifier
from robench.search.declaration import declaration_of
from robench.search.judge import Judge
from robench.search.outcome import Outcome
from robench.search.rng import Draws
from robench.search.search import Search
from robench.threat import ThreatModel
from robench.utils.errors import AttackError
from tests.helpers import (
    Linear,
    Trained,
    adversary,
    correct,
    linear_case,
    minimal_eps,
    run_attack,
    search_of,
)

THREAT = ThreatModel.of("linf", 0.05)


def run(function: Callable[..., Any], model: nn.Module, x: Tensor, y: Tensor, **options: Any) -> Outcome:
    threat = options.pop("threat", THREAT)
    restarts = options.pop("restarts", 1)
    classifier = Classifier(model)
    draws = Draws(0, np.arange(len(x)), x.device)
    access = declaration_of(function).access
    search = Search(classifier, Judge(classifier, threat), threat, x, y, draws, access=access, **options)
    return search.run(function, restarts)


@sees("gradients")
def leaves_the_ball(search: Search) -> None:
    gradient = search.gradient(search.x, cross_entropy)
    search.offer((search.x + 10 * search.eps * gradient.sign()).clamp(0, 1))


@sees("gradients")
def leaves_the_box(search: Search) -> None:
    gradient = search.gradient(search.x, cross_entropy)
    search.offer(search.x + search.eps * gradient.sign())


@sees("labels")
def offers_nan(search: Search) -> None:
    search.offer(torch.full_like(search.x, torch.nan))


def test_an_image_outside_the_ball_is_no_success() -> None:
    model, x, y = linear_case(2)
    eps = 0.9 * float(minimal_eps(model, x, y, "linf").min())
    assert (model(adversary(model, x, y, 10 * eps)).argmax(1) != y).any()  # it would have been one
    outcome = run(leaves_the_ball, model, x, y, threat=ThreatModel.of("linf", eps))
    assert not outcome.fooled.any()
    assert outcome.invalid.all()
    assert torch.equal(outcome.kept, x)


def test_an_image_outside_the_box_is_no_success() -> None:
    model, x, y = linear_case(2)
    x = 0.999 + 0.02 * (x - 0.5)  # at its upper edge
    y = model(x).argmax(1)
    outcome = run(leaves_the_box, model, x, y, threat=ThreatModel.of("linf", 0.5))
    assert outcome.invalid.all()
    assert not outcome.fooled.any()


def test_nan_is_no_success() -> None:
    model, x, y = linear_case(2)
    outcome = run(offers_nan, model, x, y)
    assert not outcome.fooled.any()
    assert outcome.invalid.all()
    assert outcome.kept.isfinite().all()


class Binary(Linear):
    """Finite logits at any image: one that is not finite is surely of class 1."""

    def forward(self, x: Tensor) -> Tensor:
        sure = x.flatten(1).isnan().any(1, keepdim=True) * torch.tensor([0.0, 1000.0])
        return super().forward((x > 0.5).float()) + sure


@pytest.mark.parametrize("spoiled", ["nan", "in place"])
def test_what_becomes_of_a_projected_point_is_seen(spoiled: str) -> None:
    """A point that is none of the threat's, though it came from `project`, takes no other's place."""
    model, x, y = linear_case(2)
    weight = model.layer.weight.detach()
    model = Binary(weight, torch.zeros(2)) if spoiled == "nan" else model
    x = torch.full_like(x, 0.48)
    y = model(x).argmax(1)
    adversarial = adversary(model, x, y, 0.05)

    @sees("scores")
    def spoils(search: Search) -> None:
        point = search.project(torch.full_like(search.x, torch.nan) if spoiled == "nan" else search.x)
        if spoiled == "in place":
            point -= 100 * (weight[search.y] - weight[1 - search.y]).sign().view_as(point)
        search.query(point)
        search.query(search.project(adversarial[search.draws.examples]))

    outcome = run(spoils, model, x, y)
    assert THREAT.contains(outcome.kept, x).all()
    assert torch.equal(outcome.fooled, model(adversarial).argmax(1) != y)
    assert outcome.fooled.any()


def test_an_image_of_another_shape_is_an_error() -> None:
    @sees("labels")
    def offers_another_shape(search: Search) -> None:
        search.offer(search.x[:, :, :2])

    with pytest.raises(AttackError, match=r"shape \(12, 1, 2, 4\)"):
        run(offers_another_shape, *linear_case(2))


@pytest.mark.parametrize("access", ["labels", "scores"])
def test_a_black_box_attack_gets_no_gradient(access: Any) -> None:
    @sees(access)
    def cheats(search: Search) -> None:
        search.gradient(search.x, cross_entropy)

    with pytest.raises(AttackError, match=f"sees {access} and asked for gradients"):
        run(cheats, *linear_case(2))


class NaNWhereSmall(Linear):
    """NaN logits away from the originals."""

    def forward(self, x: Tensor) -> Tensor:
        logits = super().forward(x)
        moved = (x.flatten(1) - 0.5).abs().amax(1, keepdim=True) > 0.1
        return logits.masked_fill(moved, torch.nan)


def test_a_model_whose_logits_are_nan_is_not_fooled() -> None:
    base, x, _ = linear_case(2)
    model = NaNWhereSmall(base.layer.weight.detach(), base.layer.bias.detach())
    y = model(x).argmax(1)

    @sees("labels")
    def walks_off(search: Search) -> None:
        search.offer(search.project(search.x + 0.2))

    outcome = run(walks_off, model, x, y, threat=ThreatModel.of("linf", 0.3))
    assert not outcome.fooled.any()
    assert not outcome.invalid.any()  # the images were fine


def test_a_gradient_that_is_not_finite_does_not_poison_the_search() -> None:
    class Broken(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            flat = x.flatten(1)
            return torch.stack([flat.sum(1), (flat.sum(1) - flat.sum(1)).sqrt()], 1)  # an infinite slope at 0

    seen: list[Tensor] = []

    @sees("gradients")
    def looks(search: Search) -> None:
        seen.append(search.gradient(search.x, lambda logits, y: logits[:, 1]))

    x = torch.rand(3, 1, 4, 4)
    run(looks, Broken(), x, torch.zeros(3, dtype=torch.int64))
    assert seen[0].isfinite().all()


def test_state_stays_with_its_example_as_others_leave() -> None:
    model, x, y = linear_case(2, examples=24)
    distances = minimal_eps(model, x, y, "linf")
    worst = adversary(model, x, y, 1.0) - x
    standing: list[int] = []

    @sees("labels")
    def creeps(search: Search) -> None:
        at = search.state(original=search.x, direction=worst, name=torch.arange(len(search.x)))
        for step in search.steps(30):
            standing.append(len(search.x))
            assert torch.equal(at.original, search.x)
            assert torch.equal(x[at.name], search.x)
            assert torch.equal(y[at.name], search.y)
            assert search.draws.examples.tolist() == at.name.tolist()
            search.offer(search.x + search.eps * (step + 1) / 30 * at.direction)

    eps = float(distances.max()) * 1.1
    outcome = run(creeps, model, x, y, threat=ThreatModel.of("linf", eps))
    assert outcome.fooled.all()
    assert standing[0] == 24
    assert standing[-1] < 12
    expected = torch.ceil(distances / eps * 30) - 1
    assert (outcome.first_step - expected).abs().max() <= 1
    assert torch.equal(outcome.queries, outcome.first_step + 1)
    assert torch.equal(outcome.forwards, outcome.queries)


def test_the_candidate_kept_of_a_survivor_is_the_one_of_largest_margin() -> None:
    model, x, y = linear_case(2)
    eps = float(minimal_eps(model, x, y, "linf").min()) * 0.9

    @sees("scores")
    def to_the_edge_and_back(search: Search) -> None:
        for share in (0.5, 1.0, 0.2):
            search.offer(adversary(model, search.x, search.y, share * eps))

    outcome = run(to_the_edge_and_back, model, x, y, threat=ThreatModel.of("linf", eps))
    assert not outcome.fooled.any()
    assert torch.equal(outcome.kept, adversary(model, x, y, eps))
    assert torch.allclose(outcome.margin, margin(model(outcome.kept), y).detach(), atol=1e-6)


def test_the_reading_final_is_of_the_last_candidate_and_drops_nobody() -> None:
    model, x, y = linear_case(2)
    eps = 1.1 * float(minimal_eps(model, x, y, "linf").max())

    @sees("labels")
    def over_and_back(search: Search) -> None:
        for share in (1.0, 0.0):
            search.offer(adversary(model, search.x, search.y, share * eps))

    threat = ThreatModel.of("linf", eps)
    final = run(over_and_back, model, x, y, threat=threat, drop=False)
    assert final.fooled.all()
    assert not final.last_fooled.any()
    assert final.forwards.tolist() == [2] * len(x)
    assert torch.equal(final.kept, adversary(model, x, y, eps))


def test_restarts_work_on_the_survivors_with_other_draws() -> None:
    model, x, y = linear_case(2, examples=16)
    distances = minimal_eps(model, x, y, "linf")
    eps = float(distances.max()) * 1.01
    half = float(distances.median())
    sizes: list[int] = []
    starts: list[Tensor] = []

    @sees("labels")
    def harder_each_time(search: Search) -> None:
        sizes.append(len(search.x))
        starts.append(search.random_start()[-1])
        reach = half if len(sizes) == 1 else eps
        search.offer(adversary(model, search.x, search.y, reach))

    outcome = run(harder_each_time, model, x, y, threat=ThreatModel.of("linf", eps), restarts=3)
    assert outcome.fooled.all()
    assert sizes[0] == 16
    assert 4 <= sizes[1] <= 12
    assert len(sizes) == 2  # nobody was left for the third
    assert not torch.equal(starts[0], starts[1])


def test_a_success_that_the_judge_does_not_confirm_goes_on() -> None:
    """The search's model and the judge's may differ (low precision); the judge's decides."""
    strict, x, y = linear_case(2, examples=24)
    x, y = x[y == 1], y[y == 1]
    lax = Linear(torch.zeros(2, 16), torch.tensor([1.0, 0.0]))  # calls everything class 0
    threat = ThreatModel.of("linf", 1.1 * float(minimal_eps(strict, x, y, "linf").max()))
    judge = Judge(Classifier(strict), threat)
    search = Search(Classifier(lax), judge, threat, x, y, Draws(0, np.arange(len(x)), x.device), access="labels")
    standing: list[int] = []

    @sees("labels")
    def tries_twice(search: Search) -> None:
        for step in search.steps(2):
            standing.append(len(search.x))
            search.offer(adversary(strict, search.x, search.y, step * threat.eps))

    outcome = search.run(tries_twice)
    assert standing == [len(x), len(x)]
    assert outcome.fooled.all()
    assert outcome.first_step.tolist() == [1] * len(x)
    assert torch.equal(outcome.kept, adversary(strict, x, y, threat.eps))


def test_the_callers_model_is_left_as_it_was() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 3), nn.BatchNorm1d(3), nn.Dropout(0.5)).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    _, x, _ = linear_case(3)
    run(leaves_the_box, model, x, torch.zeros(len(x), dtype=torch.int64))
    assert model.training
    assert all(parameter.requires_grad and parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


class Centred(Linear):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward((x - 0.5) / 0.5)


class CentredInPlace(Linear):
    """As many models do that normalise."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.sub_(0.5).div_(0.5))


@pytest.mark.usefixtures("short_autoattack")
@pytest.mark.parametrize("name", ["pgd-20", "square"])
def test_a_model_that_changes_its_input_in_place_changes_nothing_else(name: str) -> None:
    linear, x, _ = linear_case(3)
    weight, bias = linear.layer.weight.detach(), linear.layer.bias.detach()
    before, y = x.clone(), Centred(weight, bias)(x).argmax(1).detach()
    threat = ThreatModel.of("linf", 0.3)
    first, second = (run_attack(name, kind(weight, bias), x, y, threat) for kind in (Centred, CentredInPlace))
    assert first.fooled.any()
    assert torch.equal(first.fooled, second.fooled)
    assert torch.equal(first.kept, second.kept)
    assert torch.equal(x, before)


@pytest.mark.parametrize("drop", [True, False])
def test_those_given_up_leave_with_their_best_candidate_and_come_back_in_the_next_run(
    drop: bool, digits_model: Trained
) -> None:
    search = search_of(digits_model, 6, 1e-3, drop)
    present: list[int] = []
    earlier: list[Tensor] = []

    @sees("gradients")
    def giving_up(search: Search) -> None:
        earlier.append(search.earlier.clone())
        search.offer(search.random_start(search.draws.restart))
        candidates, margins = search.best
        logits = digits_model.model(candidates)
        assert torch.allclose(margin(logits, search.y), margins, atol=1e-5)
        at = search.state(rows=torch.arange(6))
        search.stop(torch.tensor([True, False, True, False, False, False]))
        present.extend(at.rows.tolist())
        assert len(search.x) == len(at.rows)
        search.offer(search.x)

    outcome = search.run(giving_up, restarts=2)
    assert present == 2 * ([1, 3, 4, 5] if drop else list(range(6)))
    assert outcome.forwards.tolist() == ([2, 4, 2, 4, 4, 4] if drop else [4] * 6)
    assert not outcome.fooled.any()
    assert (earlier[0] == -torch.inf).all()
    assert earlier[1].isfinite().all()
    assert (outcome.margin >= earlier[1]).all()
    assert torch.allclose(
        margin(digits_model.model(outcome.kept), correct(digits_model, 6)[1]), outcome.margin, atol=1e-5
    )


def test_a_suspect_is_judged_before_it_can_be_given_up(digits_model: Trained) -> None:
    search = search_of(digits_model, 12, 0.3)

    @sees("gradients")
    def rash(search: Search) -> None:
        up = search.gradient(search.x, margin)
        search.offer(search.project(search.x + search.eps * up.sign()))
        search.stop(torch.ones(12, dtype=torch.bool))
        assert not len(search.x)

    outcome = search.run(rash)
    wrong = digits_model.model(outcome.kept).argmax(1) != correct(digits_model, 12)[1]
    assert wrong.any()
    assert torch.equal(outcome.fooled, wrong)


@pytest.mark.parametrize("name", ["x", "y"])
def test_the_examples_cannot_be_replaced(name: str) -> None:
    """Neither by `search.x = ...` nor by `search.x += ...`, which also changes them."""
    model, x, y = linear_case(3)

    @sees("gradients")
    def replaces(search: Search) -> None:
        setattr(search, name, getattr(search, name) + 1)

    with pytest.raises(AttackError, match=r"write at.x = at.x \+ step"):
        run(replaces, model, x, y)


def test_a_state_holds_tensors_alone() -> None:
    model, x, y = linear_case(3)

    @sees("gradients")
    def counts(search: Search) -> None:
        at = search.state(x=search.x)
        at.count = 3  # type: ignore[assignment]
        search.stop(torch.arange(len(search.x)) < 2)

    with pytest.raises(AttackError, match="got count, a int"):
        run(counts, model, x, y)


def test_what_a_stopped_run_found_is_judged_before_it_leaves() -> None:
    """A candidate may fool the judge though not the search, whose model here calls everything class 1."""
    strict, x, y = linear_case(2, examples=24)
    x, y = x[y == 1], y[y == 1]
    blind = Classifier(Linear(torch.zeros(2, 16), torch.tensor([0.0, 1.0])))
    threat = ThreatModel.of("linf", 1.1 * float(minimal_eps(strict, x, y, "linf").max()))
    search = Search(blind, Judge(Classifier(strict), threat), threat, x, y, Draws(0, np.arange(len(x)), x.device))

    @sees("gradients")
    def stops_at_once(search: Search) -> None:
        search.offer(adversary(strict, search.x, search.y, threat.eps))
        search.stop(torch.ones_like(search.y, dtype=torch.bool))

    assert search.run(stops_at_once).fooled.all()
