"""Auto-PGD: gradient steps with momentum whose length adapts itself."""

from collections.abc import Callable
from itertools import pairwise
from math import ceil
from typing import Literal

import torch
from torch import Tensor

from robench.access import Needs, Settings, Task, sees
from robench.losses import Loss, cross_entropy, dlr, margin, others, targeted_margin
from robench.search import Search
from robench.threat import per_example

LOSSES: dict[str, Loss] = {"ce": cross_entropy, "dlr": dlr, "margin": margin}
Name = Literal["ce", "dlr", "margin"]


def _asks(settings: Settings, task: Task) -> Needs:
    return Needs(classes=3 if settings["loss"] == "dlr" and settings["targets"] is None else 2)


def _unsaturated(settings: Settings) -> bool:
    return settings["targets"] is not None or settings["loss"] != "ce"


@sees("gradients", asks=_asks, stops=True, unsaturated=_unsaturated)
def apgd(search: Search, *, steps: int = 100, loss: Name = "ce", targets: int | None = None) -> None:
    """Auto-PGD (Croce & Hein 2020, Algorithm 1) up the cross-entropy, their difference of logits ratio, or the margin;
    with `targets`, up the margin to so many other classes in turn, highest logit at x first, to more in each restart.

    The ratio needs 3 classes. It is our own, whose fallen leave at each step; apgd-ce and apgd-t are the parts of
    AutoAttack from its library.
    """
    aim = search.state(others=others(search.query(search.x), search.y))

    def climb(points: Tensor) -> tuple[Tensor, Tensor]:
        if targets:
            return search.value_and_gradient(points, targeted_margin, aim.target)
        return search.value_and_gradient(points, LOSSES[loss])

    for number in range(min((search.draws.restart + 1) * targets, search.classes - 1) if targets else 1):
        aim.target = aim.others[:, number]
        _run(search, steps, number, climb)


def _run(search: Search, steps: int, number: int, climb: Callable[[Tensor], tuple[Tensor, Tensor]]) -> None:
    """A run from the start of this number; `climb` gives the loss at points and its gradient."""
    at = search.state(x=search.random_start(number))
    at.value, at.gradient = climb(at.x)
    at.before, at.best, at.top, at.slope = at.x, at.x, at.value, at.gradient  # top and slope are those of the best
    at.length, at.rises, at.checked = torch.full_like(at.value, 2 * search.eps), torch.zeros_like(at.value), at.value
    at.halved = torch.ones_like(at.value, dtype=torch.bool)
    spans = _spans(steps)
    for step in search.steps(steps):
        ahead = search.project(at.x + per_example(at.length, at.x) * search.steepest(at.gradient))
        share = 0.75 if step else 1.0
        at.before, at.x = at.x, search.project(at.x + share * (ahead - at.x) + (1 - share) * (at.x - at.before))
        value, at.gradient = climb(at.x)
        at.rises, at.value = at.rises + (value > at.value), value
        better = per_example(at.value > at.top, at.x)
        at.best, at.slope = at.x.where(better, at.best), at.gradient.where(better, at.slope)
        at.top = at.value.maximum(at.top)
        if span := spans.get(step + 1):
            at.halved = (at.rises < 0.75 * span) | (~at.halved & (at.top <= at.checked))
            at.length = torch.where(at.halved, at.length / 2, at.length)
            halved = per_example(at.halved, at.x)
            at.x, at.gradient = at.best.where(halved, at.x), at.slope.where(halved, at.gradient)
            at.value = at.top.where(at.halved, at.value)
            at.checked, at.rises = at.top, torch.zeros_like(at.rises)


def _spans(steps: int) -> dict[int, int]:
    """The checkpoints, where the length may be halved, with the steps since the one before (section 3 of the paper)."""
    shares = [0.0, 0.22]
    while shares[-1] < 1:
        shares.append(shares[-1] + max(shares[-1] - shares[-2] - 0.03, 0.06))
    ends = [ceil(share * steps - 1e-9) for share in shares]
    return {end: end - start for start, end in pairwise(ends) if end > start}
