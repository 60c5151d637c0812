"""Who survived, found the same way for every library: one look at what it returned, in plain float32."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

TOLERANCE = 1e-6
"""By which rounding may carry a pixel past the ball or the box."""

BATCH = 100


@dataclass(frozen=True)
class Score:
    """Per example [B]: whether its adversarial example is one, and whether it left the ball or the box or was not
    finite, and so is none."""

    fooled: Tensor
    outside: Tensor

    @property
    def robust(self) -> float:
        """The share that survived."""
        return 1 - float(self.fooled.float().mean())


@torch.no_grad()
def score(model: nn.Module, x_adv: Tensor, x: Tensor, y: Tensor, eps: float) -> Score:
    """x_adv and x [B, ...], y [B]; `model` in evaluation mode, in float32; an l-infinity ball of radius eps."""
    if x_adv.shape != x.shape or x_adv.dtype != torch.float32:
        raise ValueError(f"expected float32 {tuple(x.shape)}, got {x_adv.dtype} {tuple(x_adv.shape)}")
    furthest = (x_adv - x).flatten(1).abs().amax(1)
    flat = x_adv.flatten(1)
    within = (furthest <= eps + TOLERANCE) & (flat.amin(1) >= -TOLERANCE) & (flat.amax(1) <= 1 + TOLERANCE)
    predicted = torch.cat([model(part).argmax(1) for part in torch.split(x_adv, BATCH)])  # NaN: never within
    return Score(within & (predicted != y), ~within)


def union(scores: list[Score]) -> Score:
    """Of several attacks on the same examples: fooled by any, outside in any."""
    fooled, outside = scores[0].fooled, scores[0].outside
    for each in scores[1:]:
        fooled, outside = fooled | each.fooled, outside | each.outside
    return Score(fooled, outside)
