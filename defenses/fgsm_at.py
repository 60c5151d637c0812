"""Adversarial training with one step towards another class."""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from robench.losses import targeted_cross_entropy
from robench.training.defense import MODEL, Batch, Defense, Step
from robench.training.inner_max import Start, adversary, evaluating
from robench.training.rng import integers


@dataclass(frozen=True)
class FGSMAT(Defense):
    """ce(f(x_adv), y), x_adv one step of eps that lowers the ce of a target (Kurakin et al. 2017).

    ADT, which reports it as AT_FGSM, does not name the target: `least_likely` is Kurakin et al.'s, `random` a uniform
    one of the others. A single step is known to be overcome by a model that learns to mask its gradient.
    Passes a step: 2, and one forward more to see what is least likely.
    """

    target: Literal["least_likely", "random"] = "least_likely"
    start: Start = "clean"

    def losses(self, batch: Batch, step: Step) -> dict[str, Tensor]:
        target = self._target(batch, step)
        x_adv = adversary(step, batch, targeted_cross_entropy, target, start=self.start, steps=1, step_size="eps")
        return {MODEL: F.cross_entropy(step.model(x_adv), batch.y)}

    @torch.no_grad()
    def _target(self, batch: Batch, step: Step) -> Tensor:
        with evaluating(step.model):
            logits = step.model(batch.x)
        if self.target == "least_likely":
            least: Tensor = logits.scatter(1, batch.y[:, None], torch.inf).argmin(1)
            return least
        classes = logits.shape[1]
        shift = integers(1, classes, batch.y.shape, step.generator)
        another: Tensor = (batch.y + shift) % classes
        return another
