"""Margins towards one class after another, the nearest first, from starts that differ in their logits."""

from math import cos, pi

from torch import Tensor

from robench.losses import others, targeted_margin
from robench.search import Search, sees
from robench.threat import Size


@sees("gradients", stops=True, unsaturated=True)
def multi_targeted(
    search: Search, *, targets: int = 3, steps: int = 10, step_size: Size = "2*eps", diversify: int = 2
) -> None:
    """Climbs z_t - z_y towards `targets` other classes t, one run each (Gowal et al. 2019), highest logit at x first.

    A run begins at a uniform point of the ball, moves `diversify` steps of length eps up a random combination of the
    logits (output diversified initialization, Tashiro et al. 2020), and takes `steps` steps whose length falls from
    `step_size` to 0 along half a cosine. It is not the targeted attack of AutoAttack, which adapts its steps and
    divides the margin (DLR).
    """
    at = search.state(others=others(search.query(search.x), search.y))
    length = search.size(step_size)
    for number in range(min(targets, search.classes - 1)):
        at.x, at.target = search.random_start(number), at.others[:, number]
        at.weights = 2 * search.draws.uniform("logits", (search.classes,), number) - 1
        for _ in search.steps(diversify):
            at.x = search.project(at.x + search.eps * search.steepest(search.gradient(at.x, combination, at.weights)))
        for step in search.steps(steps):
            up = search.steepest(search.gradient(at.x, targeted_margin, at.target))
            at.x = search.project(at.x + length * (1 + cos(pi * step / steps)) / 2 * up)
        search.offer(at.x)


def combination(logits: Tensor, y: Tensor, weights: Tensor) -> Tensor:
    """The logits [B, C] summed by weights [B, C]."""
    return (weights * logits).sum(1)
