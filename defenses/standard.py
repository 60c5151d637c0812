"""Training without an adversary."""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from robench.training.defense import Batch, Defense, Step


@dataclass(frozen=True)
class Standard(Defense):
    """ce(f(x), y). Passes a step: 1."""

    soft_labels = True

    def losses(self, batch: Batch, step: Step) -> dict[str, Tensor]:
        return {"model": F.cross_entropy(step.model(batch.x), batch.y)}
