"""The Carlini & Wagner loss under projected gradient steps."""

from robench.losses import margin
from robench.search import Search, sees
from robench.threat import Size


@sees("gradients", prefix_setting="steps", unsaturated=True)
def cw(search: Search, *, steps: int = 30, step_size: Size = "eps/4", random_start: bool = True) -> None:
    """PGD on the margin max_{j != y} z_j - z_y (Carlini & Wagner 2017, as Madry et al. 2018 use it).

    It is what papers on adversarial training print as C&W under a fixed eps, not the original attack, which looks for
    the smallest perturbation. The margin is not clamped; the papers' code stops it at 50.
    """
    at = search.state(x=search.random_start() if random_start else search.x)
    step = search.size(step_size)
    for _ in search.steps(steps):
        at.x = search.project(at.x + step * search.steepest(search.gradient(at.x, margin)))
    search.offer(at.x)
