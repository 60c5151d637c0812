"""The fast gradient sign method."""

from robench.losses import cross_entropy
from robench.search import Search, sees


@sees("gradients")
def fgsm(search: Search, *, random_start: bool = False) -> None:
    """One step of length eps along the sign of the gradient of the cross-entropy (Goodfellow et al. 2015).

    For l2 the step follows the gradient itself. With `random_start` it begins at a uniform point of the ball and is
    projected back: what the papers on ATLD and feature scattering call FGSM. Without it this is not a local search of
    any kind: expect it to fail on models that hide their gradient.
    """
    at = search.state(x=search.random_start() if random_start else search.x)
    for _ in search.steps(1):
        at.x = search.project(at.x + search.eps * search.steepest(search.gradient(at.x, cross_entropy)))
    search.offer(at.x)
