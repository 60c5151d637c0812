"""The least that an attack by gradients costs in plain eager float32: steps x (forward + input-backward) + 1 forward.

Frozen parameters, evaluation mode, nothing folded, laid out or rounded otherwise.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from timing import timed
from torch import Tensor, nn

BATCH = 64
"""Of the floor that ratios are to; beside it stands that with the batch size it is fastest with."""

SWEEPS = 3


@dataclass(frozen=True)
class Floor:
    """Seconds for a set of images: a forward and the backward to the input, and a forward alone."""

    pair: float
    forward: float

    def seconds(self, steps: int) -> float:
        return steps * self.pair + self.forward


def measure(model: nn.Module, x: Tensor, y: Tensor, batch: int) -> Floor:
    """One measurement on x [N, ...] with labels y [N], in batches."""

    def pairs() -> None:
        for part, labels in zip(x.split(batch), y.split(batch), strict=True):
            at = part.detach().requires_grad_()
            torch.autograd.grad(F.cross_entropy(model(at), labels, reduction="sum"), at)

    def forwards() -> None:
        with torch.no_grad():
            for part in x.split(batch):
                model(part)

    pair = sum(timed(pairs)[1] for _ in range(SWEEPS)) / SWEEPS
    return Floor(pair, timed(forwards)[1])
