"""Attacks that see scores or labels only: what they find, and what they may not do."""

from math import ceil
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from robench.search.judge import BATCH_SIZE
from robench.threat import ThreatModel
from robench.utils.errors import UserError
from tests.helpers import Linear, Trained, equidistant, linear_case, minimal_eps, run_attack


def distant_case() -> tuple[Linear, Tensor, Tensor, Tensor]:
    """Examples of a binary linear model far enough from its boundary for RayS's tolerance, with their distances."""
    model, x, _ = linear_case(2, examples=60)
    x = (0.5 + 8 * (x - 0.5)).clamp(0.3, 0.7)
    y = model(x).argmax(1)
    distance = minimal_eps(model, x, y, "linf")
    keep = (distance > 0.03) & (distance < 0.25)
    return model, x[keep], y[keep], distance[keep]


def test_rays_finds_the_radius_of_a_linear_model_within_its_tolerance() -> None:
    model, x, y, distance = distant_case()
    assert len(x) > 20
    for index, eps in list(enumerate(distance.tolist()))[::3]:
        one, label = x[index : index + 1], y[index : index + 1]
        reached = eps + 2 * 1e-3 / 4  # an l2 tolerance of 0.001 is a fourth of that along a sign vector of 16 pixels
        assert run_attack("rays:queries=200", model, one, label, ThreatModel.of("linf", reached)).fooled.all()
        assert not run_attack("rays:queries=400", model, one, label, ThreatModel.of("linf", 0.999 * eps)).fooled.any()


def test_rays_flips_the_blocks_of_its_paper() -> None:
    """Against a scalar version that follows the paper's algorithm one example at a time."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(2, 12, generator=generator)
    model = Linear(weight, torch.zeros(2))
    x = torch.rand(4, 1, 3, 4, generator=generator)
    y = model(x).argmax(1)
    asked: list[Tensor] = []
    model.register_forward_pre_hook(lambda _, inputs: asked.append(inputs[0].detach().clone()))
    for row in range(len(x)):
        asked.clear()
        run_attack("rays:queries=60", model, x[row : row + 1], y[row : row + 1], ThreatModel.of("linf", 1e-4))
        ours = [points[0].flatten() for points in asked if len(points) == 1]
        theirs = reference_rays(weight, x[row].flatten(), int(y[row]), 59)
        assert len(theirs) == 59
        assert len(ours) == 60  # the best point is offered last
        for a, b in zip(ours, theirs, strict=False):
            assert torch.allclose(a, b, atol=1e-6)


def reference_rays(weight: Tensor, x: Tensor, y: int, budget: int) -> list[Tensor]:
    asked: list[Tensor] = []

    class Spent(Exception):  # noqa: N818
        pass

    def wrong(sign: Tensor, radius: float) -> bool:
        if len(asked) == budget:
            raise Spent
        point = (x + radius * sign / sign.norm()).clamp(0, 1)
        asked.append(point)
        return int((weight @ point).argmax()) != y

    def bisect(sign: Tensor, high: float) -> float:
        low = 0.0
        while high - low > 1e-3:
            middle = (low + high) / 2
            low, high = (low, middle) if wrong(sign, middle) else (middle, high)
        return high

    size = len(x)
    sign, radius = torch.ones(size), size**0.5
    try:
        if wrong(sign, radius):
            radius = bisect(sign, radius)
        for level in range(100):
            length = -(-size // 2 ** min(level, 4))
            for first in range(0, size, length):
                trial = sign.clone()
                trial[first : first + length] *= -1
                if wrong(trial, radius) and (found := bisect(trial, radius)) < radius:
                    radius, sign = found, trial
    except Spent:
        pass
    return asked


def test_spsa_reaches_80_percent_of_the_optimum_of_a_linear_model() -> None:
    model, x, _ = linear_case(2, examples=9)
    x, y, eps = equidistant(model, x, "linf")
    name = "spsa-256:steps=60,lr=0.001"
    assert run_attack(name, model, x, y, ThreatModel.of("linf", eps / 0.8)).fooled.all()
    assert not run_attack(name, model, x, y, ThreatModel.of("linf", 0.99 * eps)).fooled.any()


def test_spsa_stops_at_success() -> None:
    model, x, y = linear_case(2)
    eps = 4 * float(minimal_eps(model, x, y, "linf").max())
    outcome = run_attack("spsa-256:steps=60,lr=0.02", model, x, y, ThreatModel.of("linf", eps))
    assert outcome.fooled.all()
    assert int(outcome.first_step.max()) < 20
    assert int(outcome.queries.max()) < 20 * 257


@pytest.mark.parametrize(
    "name", ["spsa-256:evaluations=1", "spsa-256:delta=0", "spsa-256:steps=0", "rays:tolerance=0", "rays:queries=-1"]
)
def test_settings_that_would_attack_nothing_are_refused(name: str) -> None:
    model, x, y = linear_case(2)
    with pytest.raises(UserError, match=r"at least|above 0"):
        run_attack(name, model, x, y, ThreatModel.of("linf", 0.1))


class Counting(nn.Module):
    """Counts the images that reach it, and refuses to be differentiated."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.images = [0]  # shared by the engine's copy

    def __deepcopy__(self, memo: dict[int, Any]) -> "Counting":
        return self

    def forward(self, x: Tensor) -> Tensor:
        assert not torch.is_grad_enabled()
        self.images[0] += len(x)
        return self.model(x)  # type: ignore[no-any-return]


@pytest.mark.parametrize("name", ["spsa:evaluations=32,steps=3", "rays:queries=300"])
@pytest.mark.parametrize("batch_size", [1, 50, 1000])
def test_queries_match_an_independent_counter_and_no_gradient_is_taken(
    name: str, batch_size: int, digits_model: Trained
) -> None:
    x, y = digits_model.split.floats(slice(10)), digits_model.split.labels[:10]
    counting = Counting(digits_model.model)
    threat = ThreatModel.of("linf", 1e-3)  # nobody falls, so the judge looks once, at the end
    outcome = run_attack(name, counting, x, y, threat, batch_size=batch_size)
    right = digits_model.model(x).argmax(1) == y
    assert not outcome.fooled[right].any()
    wrong = int(outcome.fooled.sum())  # to begin with: the judge looks at them before
    counting.images[0] -= BATCH_SIZE * (ceil((10 - wrong) / BATCH_SIZE) + ceil(wrong / BATCH_SIZE))
    assert int(outcome.queries.sum()) == counting.images[0]
    assert torch.equal(outcome.queries, outcome.forwards)
    assert not outcome.backwards.any()


@pytest.mark.parametrize("name", ["spsa:evaluations=64,steps=20", "rays:queries=400"])
def test_batches_change_nothing(name: str, digits_model: Trained) -> None:
    x, y = digits_model.split.floats(slice(16)), digits_model.split.labels[:16]
    threat = ThreatModel.of("linf", 0.1)
    whole = run_attack(name, digits_model.model, x, y, threat)
    assert 3 < int(whole.fooled.sum()) < 16
    for ids in ([3], [9, 0, 4], list(range(15, 2, -1))):
        part = run_attack(name, digits_model.model, x[ids], y[ids], threat, ids=ids, batch_size=40)
        assert torch.equal(part.fooled, whole.fooled[ids])
