"""Random search with square-shaped changes, from the best candidate that is known."""

from math import sqrt

import torch
from torch import Tensor

from robench.losses import margin
from robench.search import Search, sees
from robench.threat import per_example

HALVINGS = (0.001, 0.005, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8)
"""Shares of the queries after which the area of the squares is halved."""


@sees("scores", stops=True, unsaturated=True)
def squares(search: Search, *, queries: int = 2000, tries: int = 8, area: float = 0.8, windows: int = 10) -> None:
    """Changes each channel by 2 eps up or down in a random square, and keeps what raises the margin (Andriushchenko et
    al. 2020); goes on from the best candidate of the run so far or, where there is none, begins at vertical stripes.

    Ours are: the best of `tries` squares is taken at a step; whoever gains in one of `windows` equal parts of the
    queries too little to reach a margin of 0 at half that pace (gains shrink) in those that are left is given up; and
    in l2, where the paper moves mass between two windows, each pixel changes by 2 eps / sqrt(pixels) and the whole is
    projected.
    """
    channels, height, width = search.shape
    change = search.eps if search.threat.norm == "linf" else search.eps / sqrt(channels * height * width)
    known, rise = search.best
    stripes = search.x + change * search.draws.signs("stripes", (channels, 1, width))
    at = search.state(x=known.where(per_example(rise > -torch.inf, known), search.project(stripes)))
    at.margin = search.value(at.x, margin)
    length = max(queries // tries // windows, 1)
    for window in range(windows):
        at.chance = search.draws.uniform("squares", (length, tries, 2 + channels), window)
        at.before = at.margin
        for step in search.steps(length):
            share = area / 2 ** sum((window + step / length) / windows > bound for bound in HALVINGS)
            side = min(max(round(sqrt(share * height * width)), 1), height, width)
            changes = 2 * change * _squares(at.chance[:, step], side, height, width)
            points = search.project(at.x[:, None] + changes)
            found, best = search.value(points, margin).max(1)
            better = found > at.margin
            at.margin = found.where(better, at.margin)
            at.x = points[torch.arange(len(best)), best].where(per_example(better, at.x), at.x)
        if window < windows - 1:
            search.stop(-at.margin > (at.margin - at.before) * (windows - 1 - window) / 2)


def _squares(chance: Tensor, side: int, height: int, width: int) -> Tensor:
    """-1 or 1 in a square of each channel and 0 elsewhere [B, k, C, H, W], by uniform numbers [B, k, 2 + C]."""
    within = []
    for place, length in ((chance[..., :1], height), (chance[..., 1:2], width)):
        first = (place * (length - side + 1)).floor()
        pixels = torch.arange(length, device=chance.device)
        within.append((first <= pixels) & (pixels < first + side))
    square = within[0][..., :, None] & within[1][..., None, :]
    return square[..., None, :, :] * (2 * chance[..., 2:].round() - 1)[..., None, None]
