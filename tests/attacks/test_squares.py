"""Squares: how near they come to a known bound, where they start, and which examples they leave."""

import pytest
import torch
from torch import Tensor

from robench.losses import margin
from robench.search import sees
from robench.search.catalog import attack
from robench.search.search import Search
from robench.threat import ThreatModel
from tests.helpers import Trained, correct, equidistant, linear_case, run_attack, search_of


@pytest.mark.parametrize(("norm", "reach"), [("linf", 0.98), ("l2", 0.85)])
def test_squares_reach_nearly_the_bound_of_a_linear_model_and_not_beyond(norm: str, reach: float) -> None:
    model, x, _ = linear_case(2, examples=23)
    x, y, eps = equidistant(model, x, norm)
    name = "squares:queries=4000,windows=1"
    assert run_attack(name, model, x, y, ThreatModel.of(norm, eps / reach)).fooled.all()
    assert not run_attack(name, model, x, y, ThreatModel.of(norm, 0.99 * eps)).fooled.any()


@pytest.mark.parametrize("known", [True, False])
def test_squares_go_on_from_the_best_candidate_of_the_run(known: bool, digits_model: Trained) -> None:
    search = search_of(digits_model, 5, 0.02)
    x = search.x
    starts = [(x + shift).clamp(0, 1) for shift in (0.005, 0.02, -0.01)]
    asked: list[Tensor] = []

    @sees("gradients")
    def after(search: Search) -> None:
        for start in starts if known else []:
            search.offer(start)
        search._classifier.model.register_forward_pre_hook(lambda _, inputs: asked.append(inputs[0].clone()))
        attack("squares:queries=80")(search)

    search.run(after)
    if known:
        margins = torch.stack([margin(digits_model.model(start), search_of(digits_model, 5, 1).y) for start in starts])
        best = margins.argmax(0)
        assert len(set(best.tolist())) > 1
        assert torch.equal(asked[0], torch.stack([starts[place][row] for row, place in enumerate(best)]))
    else:
        moved = ((asked[0] - x).sign() * ((x > 0.02) & (x < 0.98)))[:, 0]  # those the box does not stop
        up, down = (moved > 0).any(1), (moved < 0).any(1)
        assert not (up & down).any()  # a column moves one way
        assert up.any()
        assert down.any()


def test_squares_give_up_whom_their_pace_would_not_bring_down(digits_model: Trained) -> None:
    x, y = correct(digits_model, 10)
    patient, quick = (
        run_attack(f"squares:queries=800,windows={windows}", digits_model.model, x, y, ThreatModel.of("linf", 1e-4))
        for windows in (1, 10)
    )
    assert patient.forwards.tolist() == [801] * 10
    assert quick.forwards.tolist() == [81] * 10
