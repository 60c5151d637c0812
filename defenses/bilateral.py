"""Bilateral adversarial training."""

from dataclasses import dataclass

import torch
from torch import Tensor

from robench.losses import soft_cross_entropy, targeted_cross_entropy
from robench.training.defense import MODEL, Batch, Defense, Step
from robench.training.inner_max import Start, adversary, evaluating


@dataclass(frozen=True)
class Bilateral(Defense):
    """ce(f(x_adv), y_adv): both the image and its label are perturbed (Wang & Zhang 2019).

    x_adv is one step of eps from a random start that lowers the ce of the most confusing class, the likeliest wrong
    one. y_adv gives the true class 1 - label_eps and shares the rest in proportion to v_k - v_min + 0.01, v_k = -log
    p_k(x_adv), v_min the least among wrong classes: most to the class that the loss falls for slowest.
    Passes a step: 2, and two forward more.
    """

    label_eps: float = 0.5
    start: Start = "ball"

    def losses(self, batch: Batch, step: Step) -> dict[str, Tensor]:
        x, y = batch.x, batch.y
        with torch.no_grad(), evaluating(step.model):
            confusing = step.model(x).scatter(1, y[:, None], -torch.inf).argmax(1)
        x_adv = adversary(step, batch, targeted_cross_entropy, confusing, start=self.start, steps=1, step_size="eps")
        with torch.no_grad(), evaluating(step.model):
            labels = perturbed_labels(step.model(x_adv), y, self.label_eps)
        return {MODEL: soft_cross_entropy(step.model(x_adv), labels).mean()}


def perturbed_labels(logits: Tensor, y: Tensor, label_eps: float) -> Tensor:
    """y_adv [B, C], from logits [B, C] and labels [B]."""
    value = -logits.log_softmax(1)
    true = torch.zeros_like(logits).scatter(1, y[:, None], 1.0)
    least = value.masked_fill(true.bool(), torch.inf).amin(1, keepdim=True)
    share = (value - least + 0.01) * (1 - true)
    return (1 - label_eps) * true + label_eps * share / share.sum(1, keepdim=True)
