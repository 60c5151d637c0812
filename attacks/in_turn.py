"""Two attacks as one, the second on the examples that the first did not break."""

import torch

from robench.access import sees
from robench.battery import Attack
from robench.losses import margin
from robench.search import Search


@sees("scores", stops=True, drives=True)
def in_turn(search: Search, *, first: Attack, then: Attack, rise: float = 0.0) -> None:
    """`first`, then `then`, which may go on from what the first has found (`Search.best`).

    A sequence of attacks as in Composite Adversarial Attacks (Mao et al. 2021), here with each one's own settings and
    start. A restart is for those alone whose margin the runs before have brought the share `rise` of the way from x
    to 0, as restarts of Adaptive Auto Attack (Liu et al. 2022) pass over the images that look hard. Where the model or
    its images do not give what one of the two needs, the other is run alone.
    """
    if (search.earlier > -torch.inf).any():
        search.give_up(search.earlier < (1 - rise) * search.value(search.x, margin))
    for attack in (first, then):
        if len(search.x):
            attack(search)
