"""Projected gradient descent, which ascends."""

from robench.losses import cross_entropy
from robench.search import Search, sees
from robench.threat import Size


@sees("gradients", prefix_setting="steps")
def pgd(search: Search, *, steps: int = 20, step_size: Size = "eps/4", random_start: bool = True) -> None:
    """Repeated steps up the cross-entropy, each projected back (Madry et al. 2018).

    Begins at a uniform point of the ball. A step has length `step_size` in the norm of the threat. It is not the
    variant that keeps momentum (MIM) nor the one that adapts its step (APGD).
    """
    at = search.state(x=search.random_start() if random_start else search.x)
    step = search.size(step_size)
    for _ in search.steps(steps):
        at.x = search.project(at.x + step * search.steepest(search.gradient(at.x, cross_entropy)))
    search.offer(at.x)
