"""Brendel & Bethge's attack: how near it comes to a known bound, and what it counts and leaves alone."""

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import robench
from robench.search.catalog import attack
from robench.search.cost import passes_of
from robench.search.outcome import Outcome
from robench.search.resources import Images
from robench.search.search import Search
from robench.threat import ThreatModel
from robench.utils import registry
from tests.helpers import Trained, hadamard_case, linear_case, minimal_eps, run_attack


def run_bb(model: nn.Module, x: Tensor, y: Tensor, eps: float, *, steps: int, ids: list[int] | None = None) -> Outcome:
    """B&B on the examples `ids` of x, in that order, and all of x as its pool of images."""
    ids = list(range(len(x))) if ids is None else ids
    threat, pool = ThreatModel.of("linf", eps), Images.of(x, y)
    return run_attack(f"bb:steps={steps}", model, x[ids], y[ids], threat, ids=ids, images=pool)


CASES = {"two classes": linear_case(2, 8), "five classes": linear_case(5, 8), "equal distances": hadamard_case(8)}


@pytest.mark.parametrize(
    "case", ["two classes", pytest.param("five classes", marks=pytest.mark.slow), "equal distances"]
)
def test_it_fools_a_linear_model_just_beyond_the_boundary_and_never_before(case: str) -> None:
    model, x, y = CASES[case]
    beyond = 0
    for row, radius in enumerate(minimal_eps(model, x, y, "linf").tolist()):
        beyond += int(run_bb(model, x, y, 1.02 * radius, steps=1000, ids=[row]).fooled)
        before = run_bb(model, x, y, 0.98 * radius, steps=50, ids=[row])
        assert not before.fooled.any()
        assert not before.failures
    assert beyond >= len(x) - 1  # the start may lie in a class whose boundary is farther


@pytest.mark.parametrize("case", ["two classes", pytest.param("five classes", marks=pytest.mark.slow)])
def test_from_a_corner_of_the_box_it_reaches_the_boundarys_nearest_point(
    case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, x, y = CASES[case]
    monkeypatch.setattr(registry.module("attacks", "bb"), "_start", _corner)  # its own start would come near by itself
    radii = minimal_eps(model, x, y, "linf").tolist()
    fooled = [
        bool(run_bb(model, x, y, 1.02 * radius, steps=1000, ids=[row]).fooled) for row, radius in enumerate(radii)
    ]
    assert sum(fooled) >= 0.75 * len(x)


def _corner(search: Search, images: Images) -> Tensor:
    """A random corner of the box, in another class."""
    for step in range(1000):
        point = search.draws.signs("corner", search.shape, step).clamp(min=0)
        if search.query(point).argmax(1) != search.y:
            return point
    raise AssertionError


def test_an_answer_does_not_depend_on_who_else_is_there(digits_model: Trained) -> None:
    x, y = digits_model.split.floats(slice(6)), digits_model.split.labels[:6]
    together = run_bb(digits_model.model, x, y, 0.06, steps=60)
    assert 0 < int(together.fooled.sum()) < 6
    reversed_ = run_bb(digits_model.model, x, y, 0.06, steps=60, ids=[5, 4, 3, 2, 1, 0])
    alone = [run_bb(digits_model.model, x, y, 0.06, steps=60, ids=[row]) for row in range(6)]
    for name in ("fooled", "kept", "margin", "first_step", "forwards", "backwards"):
        whole = getattr(together, name)
        assert torch.equal(whole, getattr(reversed_, name).flip(0)), name
        assert torch.equal(whole, torch.cat([getattr(outcome, name) for outcome in alone])), name


def test_a_local_model_of_three_channels_is_counted_and_the_callers_state_untouched() -> None:
    forwards: list[int] = []
    backwards: list[int] = []

    class Local(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(3 * 6 * 6, 2)
            self.squash: Callable[[Tensor], Tensor] = lambda z: torch.tanh(z)  # nothing that can be pickled

        def forward(self, x: Tensor) -> Tensor:
            if len(x) == 1:  # the judge's are batches of 16
                forwards.append(1)
                if x.requires_grad:
                    x.register_hook(lambda _: backwards.append(1))  # type: ignore[no-untyped-call]
            return self.squash(self.layer(x.flatten(1)))

    torch.manual_seed(0)
    model, x = Local(), torch.rand(3, 3, 6, 6)
    y = model(x).argmax(1)
    forwards.clear()
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    before = (torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate())  # type: ignore[index]
    outcome = run_bb(model, x, y, 1e-3, steps=50)
    after = (torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate())  # type: ignore[index]
    assert torch.get_num_threads() == threads + 1
    torch.set_num_threads(threads)
    assert torch.equal(before[0], after[0])
    assert before[1:] == after[1:]
    assert not outcome.failures
    looks = 2  # whether the faces of the box have a gradient
    assert int(outcome.forwards.sum()) == len(forwards) - looks > 100
    assert int(outcome.backwards.sum()) == len(backwards) - looks > 100


def test_without_a_start_an_example_is_an_error(tmp_path: Path) -> None:
    class Constant(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.flatten(1)[:, :2] * 0 + torch.tensor([1.0, 0.0])

    x, y = torch.rand(3, 1, 4, 4), torch.tensor([0, 0, 1])
    outcome = run_attack("bb", Constant(), x[:2], y[:2], ThreatModel.of("linf", 0.3), images=Images.of(x, y))
    assert not outcome.fooled.any()
    assert set(outcome.failures.values()) == {"RuntimeError: found no point of another class to start from"}
    with pytest.warns(RuntimeWarning, match="bb failed on example 0"):
        robench.attack("bb")(Constant(), x[:1], y[:1], eps=0.3, images=(x, y))


def test_its_passes_are_counted_on_a_model_that_gives_way_only_beyond_the_threat() -> None:
    x = torch.rand(2, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    threat = ThreatModel.of("linf", 0.1)
    pool = Images.of(x, torch.tensor([0, 1]))
    forwards, backwards = passes_of(attack("bb:steps=50"), threat, x[:1], 10, pool, 0)
    assert forwards > backwards >= 50
    more = passes_of(attack("bb:steps=60"), threat, x[:1], 10, pool, 0)
    assert more == (forwards + 10, backwards + 10)
