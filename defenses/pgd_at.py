"""Adversarial training with PGD."""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from robench.threat import Size
from robench.training.defense import Batch, Defense, Step
from robench.training.inner_max import Start, pgd


@dataclass(frozen=True)
class PGDAT(Defense):
    """ce(f(x_adv), y) + clean_weight * ce(f(x), y), x_adv by PGD on ce (Madry et al. 2018).

    Passes a step: steps + 1, and one more with a clean weight.
    """

    soft_labels = True

    steps: int = 7
    step_size: Size = "eps/4"
    start: Start = "ball"
    clean_weight: float = 0.0

    def losses(self, batch: Batch, step: Step) -> dict[str, Tensor]:
        x, y = batch.x, batch.y
        x_adv = pgd(step, batch, start=self.start, steps=self.steps, step_size=self.step_size)
        clean = self.clean_weight * F.cross_entropy(step.model(x), y) if self.clean_weight else 0.0
        return {"model": clean + F.cross_entropy(step.model(x_adv), y)}
