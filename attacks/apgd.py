"""Auto-PGD: gradient steps with momentum whose length adapts itself."""

from collections.abc import Callable
from math import ceil
from typing import Literal

import torch
from torch import Tensor

from robench.access import sees
from robench.losses import Loss, cross_entropy, dlr, margin, others, towards
from robench.search import Search
from robench.threat import per_example

LOSSES: dict[str, Loss] = {"ce": cross_entropy, "dlr": dlr, "margin": margin}


@sees("gradients", stops=True)
def apgd(search: Search, *, steps: int = 100, loss: Literal["ce", "dlr", "margin"] = "ce", targets: int | None = None) -> None:
    """Auto-PGD (Croce & Hein 2020, Algorithm 1) up the cross-entropy, their difference of logits ratio (DLR), or the
    margin; with `targets`, up the margin to so many other classes, one run each, the highest logit at x first. A
    restart takes the next so many.

    It is our own, whose fallen leave at each step; apgd-ce and apgd-t are the parts of AutoAttack from its library.
    """
    if not targets:
        return _run(search, steps, 0, lambda: LOSSES[loss])
    at = search.state(others=others(search.query(search.x), search.y))
    for number in range(min(targets, search.classes - 1)):
        rank = (search.draws.restart * targets + number) % (search.classes - 1)
        _run(search, steps, number, lambda rank=rank: towards(at.others[:, rank]))  # type: ignore[misc]


def _run(search: Search, steps: int, number: int, loss: Callable[[], Loss]) -> None:
    """A run from the start of this number; `loss` gives the one of those who stand."""
    at = search.state(x=search.random_start(number))
    at.value, at.gradient = search.loss_and_gradient(at.x, loss())
    at.before, at.best, at.top, at.slope = at.x, at.x, at.value, at.gradient  # top and slope are those of the best
    at.length, at.rises, at.checked = torch.full_like(at.value, 2 * search.eps), torch.zeros_like(at.value), at.value
    at.halved = torch.ones_like(at.value, dtype=torch.bool)
    checkpoints = _checkpoints(steps)
    for step in search.steps(steps):
        ahead = search.project(at.x + per_example(at.length, at.x) * search.steepest(at.gradient))
        share = 0.75 if step else 1.0
        at.before, at.x = at.x, search.project(at.x + share * (ahead - at.x) + (1 - share) * (at.x - at.before))
        value, at.gradient = search.loss_and_gradient(at.x, loss())
        at.rises, at.value = at.rises + (value > at.value), value
        better = at.value > at.top
        at.best, at.slope = _where(better, at.x, at.best), _where(better, at.gradient, at.slope)
        at.top = at.value.maximum(at.top)
        if step + 1 in checkpoints[1:]:
            span = step + 1 - checkpoints[checkpoints.index(step + 1) - 1]
            at.halved = (at.rises < 0.75 * span) | (~at.halved & (at.top <= at.checked))
            at.length = torch.where(at.halved, at.length / 2, at.length)
            at.x, at.gradient = _where(at.halved, at.best, at.x), _where(at.halved, at.slope, at.gradient)
            at.value = at.top.where(at.halved, at.value)
            at.checked, at.rises = at.top, torch.zeros_like(at.rises)


def _checkpoints(steps: int) -> list[int]:
    """Where the length may be halved (section 3.2 of the paper)."""
    shares = [0.0, 0.22]
    while shares[-1] < 1:
        shares.append(shares[-1] + max(shares[-1] - shares[-2] - 0.03, 0.06))
    return [ceil(share * steps) for share in shares]


def _where(choice: Tensor, images: Tensor, otherwise: Tensor) -> Tensor:
    return images.where(per_example(choice, images), otherwise)
