"""Misclassification-aware adversarial training (MART)."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from robench.losses import kl_divergence
from robench.threat import Size
from robench.training.defense import MODEL, Batch, Defense, Step
from robench.training.inner_max import Start, pgd


@dataclass(frozen=True)
class MART(Defense):
    """bce(f(x_adv), y) + beta * KL(f(x) || f(x_adv)) * (1 - p_y(x)), x_adv by PGD on ce (Wang et al. 2020).

    bce, the boosted ce, is ce - log(1.0001 - max_{k != y} p_k): it presses the runner-up down as well. The KL weighs
    more where the clean image is less sure. Passes a step: steps + 2.
    """

    beta: float = 5.0
    steps: int = 10
    step_size: Size = "eps/4"
    start: Start = "near_normal"

    def losses(self, batch: Batch, step: Step) -> dict[str, Tensor]:
        x, y = batch.x, batch.y
        x_adv = pgd(step, batch, start=self.start, steps=self.steps, step_size=self.step_size)
        clean, adversarial = step.model(x), step.model(x_adv)
        unsure = 1 - clean.softmax(1).gather(1, y[:, None]).squeeze(1)
        smoothness = (kl_divergence(clean, adversarial) * unsure).mean()
        return {MODEL: boosted_cross_entropy(adversarial, y).mean() + self.beta * smoothness}


def boosted_cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    """[B], of logits [B, C] and labels [B]."""
    runner_up = logits.softmax(1).scatter(1, y[:, None], 0.0).amax(1)
    return F.cross_entropy(logits, y, reduction="none") - torch.log(1.0001 - runner_up)
