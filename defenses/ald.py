"""Adversarial local distribution regularisation: many particles around each example, kept apart by SVGD."""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from robench.losses import Loss, cross_entropy, kl_divergence, kl_from
from robench.threat import Size
from robench.training.defense import Batch, Defense, Step
from robench.training.inner_max import Start, ascend, evaluating, start_points
from robench.training.svgd import Bandwidth, Kernel, Scope


@dataclass(frozen=True)
class ALD(Defense):
    """ce(f(x), y) + weight * mean over particles of loss(x'_i) (ALD, AISTATS 2022).

    The particles x'_1..n of an example climb their loss (`ce`, or `kl`: KL(f(x) || f(x'))) along SVGD's direction phi,
    which also drives them apart. With one particle and the same start this is PGD training with a clean weight of 1
    (`ce`) or TRADES (`kl`). The kernel's mean between particles, at the last inner step, is logged as `kernel`.

    kernel_scope: `example` couples the particles of one example, `batch` (the released code's) those of all of them.
    bandwidth: sigma of the kernel exp(-d^2 / (2 sigma^2)): `paper` is 10^(1-n), `median` the median heuristic.

    Passes a step: n * (steps + 1) + 1, and one more forward for `kl`; the particles ride in one batch.
    """

    loss: Literal["ce", "kl"] = "kl"
    weight: float = 1.0
    particles: int = 4
    steps: int = 10
    step_size: Size = "0.007"
    start: Start = "near_uniform"
    kernel_scope: Scope = "example"
    bandwidth: Bandwidth = "paper"

    def __post_init__(self) -> None:
        assert self._kernel  # refuses a bandwidth that is not one

    @property
    def _kernel(self) -> Kernel:
        return Kernel(self.particles, self.kernel_scope, self.bandwidth)

    @property
    def couples(self) -> bool:
        return self.kernel_scope == "batch"

    def losses(self, batch: Batch, step: Step) -> dict[str, Tensor]:
        n = self.particles
        x, y = batch.x.repeat(n, 1, 1, 1), batch.y.repeat(n)  # particle-major: [n * B, ...]
        loss: Loss = cross_entropy
        beside: list[Tensor] = []
        if self.loss == "kl":
            with torch.no_grad(), evaluating(step.model):
                loss, beside = kl_from, [step.model(batch.x).repeat(n, 1)]

        def direction(x_adv: Tensor, gradient: Tensor) -> Tensor:
            phi, between = self._kernel.steer(x_adv, gradient)
            step.log(kernel=between)
            return phi

        x_adv = step.once(
            "x_adv",
            lambda: ascend(
                step.model,
                Batch(x, y),
                loss,
                *beside,
                start=start_points(self.start, x, step.threat, step.generator),
                threat=step.threat,
                steps=self.steps,
                step_size=step.size(self.step_size),
                direction=direction if n > 1 or self.kernel_scope == "batch" else None,
            ),
        )
        clean = step.model(batch.x)
        logits = step.model(x_adv)
        outer = F.cross_entropy(logits, y) if self.loss == "ce" else kl_divergence(clean.repeat(n, 1), logits).mean()
        return {"model": F.cross_entropy(clean, batch.y) + self.weight * outer}
