"""TRADES: trading accuracy for robustness."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from robench.losses import kl_divergence, kl_from
from robench.threat import Size
from robench.training.defense import Batch, Defense, Step
from robench.training.inner_max import Start, adversary, evaluating


@dataclass(frozen=True)
class Trades(Defense):
    """ce(f(x), y) + beta * KL(f(x) || f(x_adv)), x_adv raising that KL from x + 0.001 N(0, I) (Zhang et al. 2019).

    Passes a step: steps + 3, one of them (the inner clean logits) forward only.
    """

    soft_labels = True

    beta: float = 6.0
    steps: int = 10
    step_size: Size = "0.007"
    start: Start = "near_normal"

    def losses(self, batch: Batch, step: Step) -> dict[str, Tensor]:
        x, y = batch.x, batch.y
        with torch.no_grad(), evaluating(step.model):
            reference = step.model(x)
        x_adv = adversary(step, batch, kl_from, reference, start=self.start, steps=self.steps, step_size=self.step_size)
        clean = step.model(x)
        smoothness = kl_divergence(clean, step.model(x_adv)).mean()
        return {"model": F.cross_entropy(clean, y) + self.beta * smoothness}
