"""Adversarial logit pairing."""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from robench.threat import Size
from robench.training.defense import MODEL, Batch, Defense, Step
from robench.training.inner_max import Start, pgd


@dataclass(frozen=True)
class ALP(Defense):
    """ce(f(x_adv), y) + ce(f(x), y) + weight * mean (f(x_adv) - f(x))^2, x_adv by PGD on ce (Kannan et al. 2018).

    ADT, which reports it, does not state the weight; 0.5 is Kannan et al.'s. Passes a step: steps + 2.
    """

    soft_labels = True

    weight: float = 0.5
    steps: int = 7
    step_size: Size = "eps/4"
    start: Start = "ball"

    def losses(self, batch: Batch, step: Step) -> dict[str, Tensor]:
        x, y = batch.x, batch.y
        x_adv = pgd(step, batch, start=self.start, steps=self.steps, step_size=self.step_size)
        adversarial, clean = step.model(x_adv), step.model(x)
        pairing = F.mse_loss(adversarial, clean)
        return {MODEL: F.cross_entropy(adversarial, y) + F.cross_entropy(clean, y) + self.weight * pairing}
