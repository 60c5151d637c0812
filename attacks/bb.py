"""Brendel & Bethge's attack, from foolbox."""

from functools import partial

import numpy as np
from foolbox import PyTorchModel
from foolbox.attacks import L2BrendelBethgeAttack, LinfinityBrendelBethgeAttack
from foolbox.criteria import Misclassification
from torch import Tensor, nn

from robench.losses import margin
from robench.search import Search, sees
from robench.search.resources import Images
from robench.threat import Norm, ThreatModel

LIBRARY = {"linf": LinfinityBrendelBethgeAttack, "l2": L2BrendelBethgeAttack}


@sees("gradients", stops=True, one_at_a_time=True, unsaturated=True)
def bb(search: Search, *, images: Images, steps: int = 1000, lr: float = 1e-3, seconds: float = 60.0) -> None:
    """From an adversarial point far off, along the boundary to the one nearest to x (Brendel & Bethge 2019).

    `lr` bounds a step: its l2 length is `lr` times the number of pixels at first, and halves twenty times. An example
    is done when a point within eps is found. The library's own work on it may take `seconds`; past them, or without a
    start, the example is an error, not robust. Points on the way to the start count as well where they lie within eps.
    """
    start = _start(search, images)
    if len(search.x):
        follow = partial(_follow, norm=search.threat.norm, steps=steps, lr=lr)
        compiled = partial(_compile, search.threat.norm)
        found = search.isolated(follow, search.x, search.y, start, seconds=seconds, ready=compiled)
        search.offer(search.project(found))


def _start(search: Search, images: Images) -> Tensor:
    """A point of another class: by 20 steps of PGD in a ball of 2 eps, then of 4 eps, and so on; else an image."""
    at, radius = search.state(x=search.x), search.eps
    whole = 1.0 if search.threat.norm == "linf" else search.x.numel() ** 0.5
    while radius < whole:
        radius = min(2 * radius, whole)
        ball = ThreatModel.of(search.threat.norm, radius)
        for _ in search.steps(20):
            at.x = ball.project(at.x + radius / 4 * search.steepest(search.gradient(at.x, margin)), search.x)
        if not len(search.x) or search.query(at.x).argmax(1) != search.y:
            return at.x
    for target in range(20):
        at.x = images.of_another_class(search.y, search.draws, target)
        if search.query(at.x).argmax(1) != search.y:
            return at.x
    raise RuntimeError("found no point of another class to start from")


def _follow(model: nn.Module, x: Tensor, y: Tensor, start: Tensor, *, norm: Norm, steps: int, lr: float) -> Tensor:
    seen = PyTorchModel(model.eval(), bounds=(0, 1), device=x.device)
    return LIBRARY[norm](steps=steps, lr=lr).run(seen, x, Misclassification(y), starting_points=start)  # type: ignore[no-any-return]


def _compile(norm: Norm) -> None:
    slope = np.full(4, 0.5, dtype=np.float32)  # and x, read-only as eagerpy makes it: numba tells them apart
    LIBRARY[norm]()._optimizer.solve(*[np.broadcast_to(slope, 4)] * 2, slope, 0, 1, slope[0], 0.1)
