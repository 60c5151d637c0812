"""The momentum iterative method."""

import torch

from robench.losses import cross_entropy
from robench.search import Search, sees
from robench.threat import Size, per_example


@sees("gradients", prefix_setting="steps")
def mim(search: Search, *, steps: int = 20, step_size: Size = "eps/4", decay: float = 1.0) -> None:
    """PGD along an accumulated gradient (Dong et al. 2018): g <- decay * g + grad / mean|grad|.

    The mean is over the coordinates of one example; a gradient of zero adds nothing. Begins at a uniform point of the
    ball, as Adversarial Distributional Training does; the original begins at x.
    """
    at = search.state(x=search.random_start(), momentum=torch.zeros_like(search.x))
    step = search.size(step_size)
    for _ in search.steps(steps):
        gradient = search.gradient(at.x, cross_entropy)
        scale = gradient.abs().flatten(1).mean(1)
        at.momentum = decay * at.momentum + gradient / per_example(scale.where(scale > 0, 1.0), gradient)
        at.x = search.project(at.x + step * search.steepest(at.momentum))
    search.offer(at.x)
