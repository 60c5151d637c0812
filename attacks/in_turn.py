"""Two attacks as one, the second on the examples that the first did not break."""

import torch

from robench.losses import margin
from robench.search import Search, sees
from robench.search.attack import Attack


@sees("scores", stops=True, drives=True)
def in_turn(search: Search, *, first: Attack, then: Attack, rise: float = 0.0) -> None:
    """`first`, then `then`, which may go on from what the first has found (`Search.best`).

    A sequence of attacks as in Composite Adversarial Attacks (Mao et al. 2021), here with each one's own settings and
    start. `then` and the restarts are for those alone whose margin has been brought the share `rise` of the way from x
    to 0, as restarts of Adaptive Auto Attack (Liu et al. 2022) pass over the images that look hard. Where the model or
    its images do not give what one of the two needs, the other is run alone.
    """
    for attack in (first, then):
        _pass_over(search, rise)
        if len(search.x):
            attack(search)


def _pass_over(search: Search, rise: float) -> None:
    """Gives up the examples whose margin was brought less than the share `rise` of the way; none before a first try."""
    reached = search.best[1].maximum(search.earlier)
    if rise and (reached > -torch.inf).any():
        search.stop(reached < (1 - rise) * search.value(search.x, margin))
