"""Auto-PGD: gradient steps with momentum whose length adapts itself."""

from itertools import pairwise
from math import ceil
from typing import Literal

import torch
from torch import Tensor

from robench.losses import Loss, cross_entropy, dlr, margin, others, targeted_margin
from robench.search import Search, sees
from robench.search.declaration import Needs
from robench.threat import per_example

LOSSES: dict[str, Loss] = {"ce": cross_entropy, "dlr": dlr, "margin": margin}
Name = Literal["ce", "dlr", "margin"]


@sees(
    "gradients",
    asks=lambda settings, task: Needs(classes=3 if settings["loss"] == "dlr" and not settings["targets"] else 2),
    stops=True,
    unsaturated=lambda settings: bool(settings["targets"]) or settings["loss"] != "ce",
)
def apgd(search: Search, *, steps: int = 100, loss: Name = "ce", targets: int | None = None) -> None:
    """Auto-PGD (Croce & Hein 2020, Algorithm 1) up the cross-entropy, their difference of logits ratio (of 3 classes or
    more) or the margin; with `targets`, up the margin to so many classes in turn, more in each restart, highest logit
    at the best candidate first. The library's are apgd-ce and apgd-t; in this one broken examples leave at once."""
    aim = search.state(others=others(search.query(search.best[0]), search.y))
    for number in range(min((search.draws.restart + 1) * targets, search.classes - 1) if targets else 1):
        beside = {"target": aim.others[:, number]} if targets else {}
        _run(search, steps, number, targeted_margin if targets else LOSSES[loss], beside)


def _run(search: Search, steps: int, number: int, loss: Loss, beside: dict[str, Tensor]) -> None:
    """A run from the start of this number; `beside` holds by their names what belongs to each example."""
    at = search.state(x=search.random_start(number), **beside)
    at.value, at.gradient = search.value_and_gradient(at.x, loss, *(getattr(at, name) for name in beside))
    at.before, at.best, at.top, at.slope = at.x, at.x, at.value, at.gradient  # top and slope are those of the best
    at.length, at.rises, at.checked = torch.full_like(at.value, 2 * search.eps), torch.zeros_like(at.value), at.value
    at.halved, spans = torch.ones_like(at.value, dtype=torch.bool), _spans(steps)
    for step in search.steps(steps):
        ahead = search.project(at.x + per_example(at.length, at.x) * search.steepest(at.gradient))
        share = 0.75 if step else 1.0
        at.before, at.x = at.x, search.project(at.x + share * (ahead - at.x) + (1 - share) * (at.x - at.before))
        value, at.gradient = search.value_and_gradient(at.x, loss, *(getattr(at, name) for name in beside))
        at.rises, at.value = at.rises + (value > at.value), value
        better = per_example(at.value > at.top, at.x)
        at.best, at.slope = at.x.where(better, at.best), at.gradient.where(better, at.slope)
        at.top = at.value.maximum(at.top)
        if span := spans.get(step + 1):
            at.halved = (at.rises < 0.75 * span) | (~at.halved & (at.top <= at.checked))
            at.length = torch.where(at.halved, at.length / 2, at.length)
            halved = per_example(at.halved, at.x)
            at.x, at.gradient = at.best.where(halved, at.x), at.slope.where(halved, at.gradient)
            at.value, at.checked, at.rises = at.top.where(at.halved, at.value), at.top, torch.zeros_like(at.rises)


def _spans(steps: int) -> dict[int, int]:
    """The checkpoints, where the length may be halved, with the steps since the one before (section 3 of the paper)."""
    shares = [0.0, 0.22]
    while shares[-1] < 1:
        shares.append(shares[-1] + max(shares[-1] - shares[-2] - 0.03, 0.06))
    return {end: end - start for start, end in pairwise(ceil(each * steps - 1e-9) for each in shares) if end > start}
