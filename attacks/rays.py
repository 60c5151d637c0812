"""RayS: the nearest boundary along sign directions, from labels alone."""

import math

import torch
from torch import Tensor

from robench.search import Search, sees
from robench.utils.errors import UserError


@sees("labels", norms=["linf"], stops=True, unsaturated=True)
def rays(search: Search, *, queries: int = 10_000, tolerance: float = 1e-3) -> None:
    """Flips blocks of a sign vector, and keeps a flip that brings the boundary nearer along it (Chen & Gu 2020).

    Blocks halve from the whole image to single pixels. A flip is tried at the best radius so far; where the prediction
    is wrong there, a bisection finds the new radius to within `tolerance`, an l2 length along the normalised sign
    vector. An example is done when its radius is within eps. 40,000 queries are what its public leaderboard spends.
    For l-infinity: along a sign vector the l2 radius r is the l-infinity radius r / sqrt(dimensions).
    """
    if tolerance <= 0:
        raise UserError(f"rays needs a tolerance above 0, got {tolerance}")
    ones = torch.ones_like(search.x).flatten(1)
    zero = torch.zeros_like(ones[:, 0])
    whole = math.sqrt(ones.shape[1])  # the longest radius in the box
    at = search.state(
        sign=ones, trial=ones, radius=zero + whole, low=zero, high=zero, bisecting=zero > 0, level=zero, block=zero - 1
    )
    for _ in search.steps(queries - 1):
        reach = torch.where(at.bisecting, (at.low + at.high) / 2, at.radius)
        points = search.x + (reach[:, None] / whole * at.trial).view_as(search.x)
        wrong = search.query(points.clamp(search.threat.low, search.threat.high)) != search.y
        begin = ~at.bisecting & wrong
        at.low = torch.where(at.bisecting & ~wrong, reach, at.low.where(~begin, 0.0))
        at.high = reach.where(wrong, at.high)
        at.bisecting = at.bisecting | begin

        found = at.bisecting & (at.high - at.low <= tolerance)
        nearer = found & (at.high < at.radius)
        at.radius = at.high.where(nearer, at.radius)
        at.sign = at.trial.where(nearer[:, None], at.sign)
        at.bisecting = at.bisecting & ~found
        at.level, at.block = _next_block(at.level, at.block, ~at.bisecting, ones.shape[1])
        at.trial = at.trial.where(at.bisecting[:, None], _flipped(at.sign, at.level, at.block))
    search.offer(search.project(search.x + (at.radius[:, None] / whole * at.sign).view_as(search.x)))


def _next_block(level: Tensor, block: Tensor, ready: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """The block after this one, of those that are ready: at its level, else the first of the next level."""
    length = torch.ceil(size / 2**level)
    over = ready & (block >= 0) & ((block + 1) * length >= size)
    level = (level + over).clamp(max=math.ceil(math.log2(size)))
    return level, torch.where(over, 0.0, block + ready)


def _flipped(sign: Tensor, level: Tensor, block: Tensor) -> Tensor:
    """The sign vectors [B, D] with one block of each turned over."""
    length = torch.ceil(sign.shape[1] / 2**level)[:, None]
    position = torch.arange(sign.shape[1], device=sign.device)
    return torch.where(position // length == block[:, None], -sign, sign)
