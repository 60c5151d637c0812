"""Virtual adversarial training (VAT), and ALD's form of it with many particles: semi-supervised learning."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from robench.training.defense import LABELLED, MODEL, UNLABELLED, Batch, Defense, Step
from robench.training.smoothness import Coupling, Divergence, VirtualAdversary, divergence, untracked
from robench.training.svgd import Bandwidth


@dataclass(frozen=True)
class VAT(Defense):
    """ce(f(x), y) on labelled images + weight * local smoothness on these and on unlabelled ones (ALD, eq. 14).

    The smoothness is the mean over `particles` of the `divergence` of f(x), a constant, and f(x'_i), the x'_i being
    virtual adversaries at an l2 distance of eps, found by `iterations` of power iteration from x + xi * d, d uniform
    and of unit length (`robench.training.smoothness`). They are independent where there is no kernel
    (`kernel_scope: none`, VAT with n starts); with one they follow SVGD on the directions: `example` couples the
    particles of an example, `batch` (the released code) those of all examples. With one particle and `example` this
    is VAT; and so it nearly is from two particles on with ALD's bandwidth of 10^(1-n), as unit directions lie about
    1.4 apart.

    over: `both` (eq. 14) or `unlabelled` (the released code). mixup: alpha of the Beta distribution by which all points
    x' are mixed pairwise, with their targets; 0 is none. ramp: epochs over which the weight rises as
    exp(-5 (1 - epoch / ramp)^2); 0 is none. Both networks' passes are in training mode, those around x without
    batch norm's running statistics.

    As in the code the images are not projected (its tau has no place in power iteration); unlike it the clean pass is
    made once for all particles, and a kernel sees the sum of the losses over the batch in place of their mean, so that
    its repulsion does not grow with the batch. Passes a step: 1, and n * (iterations + 1) of the images smoothed over.
    """

    streams: ClassVar[Sequence[str]] = (LABELLED, UNLABELLED)

    weight: float = 30.0
    divergence: Divergence = "mse"
    over: Literal["both", "unlabelled"] = "both"
    particles: int = 1
    xi: float = 10.0
    iterations: int = 1
    kernel_scope: Coupling = "none"
    bandwidth: Bandwidth = "paper"
    ramp: float = 30.0
    mixup: float = 0.0

    def __post_init__(self) -> None:
        assert self._adversary  # refuses what it cannot be made of

    @property
    def _adversary(self) -> VirtualAdversary:
        return VirtualAdversary(
            self.divergence, self.xi, self.iterations, self.particles, self.kernel_scope, self.bandwidth
        )

    def losses(self, batch: Batch, step: Step) -> dict[str, Tensor]:
        x, labelled = torch.cat([batch.x, batch.more[UNLABELLED]]), len(batch.x)
        logits = step.model(x)
        risk = F.cross_entropy(logits[:labelled], batch.y)
        first = 0 if self.over == "both" else labelled
        with untracked(step.model):
            change = self._change(step, x[first:], logits[first:].detach())
        smoothness = change[labelled - first :].mean()
        if self.over == "both":
            smoothness = smoothness + change[:labelled].mean()
        step.log(smoothness=smoothness)
        return {MODEL: risk + self._ramped(step.epoch) * self.weight * smoothness}

    def _change(self, step: Step, x: Tensor, reference: Tensor) -> Tensor:
        """[B], the mean over an example's particles."""
        x_adv = self._adversary.around(step, x, reference)
        targets = reference.repeat(self.particles, 1)
        if not self.mixup:
            change = divergence(self.divergence, targets, step.model(x_adv))
        else:
            share, partner = _mixture(self.mixup, len(x_adv), step.generator)
            logits = step.model(share * x_adv + (1 - share) * x_adv[partner])
            change = share * divergence(self.divergence, targets, logits)
            change = change + (1 - share) * divergence(self.divergence, targets[partner], logits)
        return change.view(self.particles, len(x)).mean(0)

    def _ramped(self, epoch: float) -> float:
        return math.exp(-5 * (1 - epoch / self.ramp) ** 2) if epoch < self.ramp else 1.0


def _mixture(alpha: float, count: int, generator: torch.Generator) -> tuple[float, Tensor]:
    """A share from Beta(alpha, alpha), one for all, and each point's partner [count] (mixup, Zhang et al. 2018)."""
    partner = torch.randperm(count, generator=generator, device=generator.device)
    seed = int(torch.randint(2**31, (), generator=generator, device=generator.device))
    return float(np.random.default_rng(seed).beta(alpha, alpha)), partner
