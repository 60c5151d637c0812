"""Adversarial local distribution regularisation: many particles around each example, kept apart by SVGD."""

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from robench.ascend import Start, ascend, evaluating, start_points
from robench.defense import Batch, Defense, Step
from robench.errors import UserError
from robench.losses import cross_entropy, kl_divergence
from robench.threat import Size


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
    kernel_scope: Literal["example", "batch"] = "example"
    bandwidth: float | Literal["paper", "median"] = "paper"

    def __post_init__(self) -> None:
        if not isinstance(self.bandwidth, str) and not 0 < self.bandwidth < math.inf:
            raise UserError(f"expected a bandwidth above 0, paper or median, got {self.bandwidth}")

    @property
    def couples(self) -> bool:
        return self.kernel_scope == "batch"

    def losses(self, batch: Batch, step: Step) -> dict[str, Tensor]:
        n = self.particles
        x, y = batch.x.repeat(n, 1, 1, 1), batch.y.repeat(n)  # particle-major: [n * B, ...]
        reference = torch.empty(0)
        if self.loss == "kl":
            with torch.no_grad(), evaluating(step.model):
                reference = step.model(batch.x).repeat(n, 1)

        def loss(logits: Tensor) -> Tensor:
            return cross_entropy(logits, y) if self.loss == "ce" else kl_divergence(reference, logits)

        def direction(x_adv: Tensor, gradient: Tensor) -> Tensor:
            particles, gradients = self._group(x_adv), self._group(gradient)
            phi, kernel = svgd(particles, gradients, self._sigma(particles))
            step.log(kernel=kernel)
            return (phi if self.kernel_scope == "batch" else phi.transpose(0, 1)).reshape(x_adv.shape)

        x_adv = step.once(
            "x_adv",
            lambda: ascend(
                step.model,
                loss,
                x,
                start_points(self.start, x, step.threat, step.generator),
                step.threat,
                steps=self.steps,
                step_size=step.size(self.step_size),
                direction=direction if n > 1 or self.kernel_scope == "batch" else None,
            ),
        )
        clean = step.model(batch.x)
        logits = step.model(x_adv)
        outer = F.cross_entropy(logits, y) if self.loss == "ce" else kl_divergence(clean.repeat(n, 1), logits).mean()
        return {"model": F.cross_entropy(clean, batch.y) + self.weight * outer}

    def _group(self, stacked: Tensor) -> Tensor:
        """[n * B, ...] as the groups that share a kernel: [B, n, D], or [1, n * B, D]."""
        if self.kernel_scope == "batch":
            return stacked.view(1, len(stacked), -1)
        return stacked.view(self.particles, len(stacked) // self.particles, -1).transpose(0, 1)

    def _sigma(self, particles: Tensor) -> Tensor:
        """The bandwidth for groups [G, n, D]: one each [G, 1, 1], or one for all."""
        if self.bandwidth == "paper":
            return particles.new_tensor(max(10.0 ** (1 - self.particles), 1e-30))  # float32 ends there
        if self.bandwidth == "median":
            n = particles.shape[1]
            first, second = torch.triu_indices(n, n, 1, device=particles.device)
            squared = (particles[:, first] - particles[:, second]).square().sum(2).median(1).values
            return (squared / (2 * math.log(n + 1))).sqrt().clamp(min=1e-12).view(-1, 1, 1)
        return particles.new_tensor(self.bandwidth)


def svgd(particles: Tensor, gradients: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
    """SVGD's direction for groups of particles [G, n, D] with the gradients of their log density [G, n, D].

    phi_i = 1/n sum_j [k(x_j, x_i) g_j + grad_{x_j} k(x_j, x_i)] (Liu & Wang 2016), k = exp(-d^2 / (2 sigma^2)).
    Also gives the mean of k over pairs of different particles, a scalar.
    """
    groups, n, _ = particles.shape
    distance = torch.cdist(particles, particles, compute_mode="donot_use_mm_for_euclid_dist")
    kernel = torch.exp(-0.5 * (distance / sigma).square())
    others = kernel * (1 - torch.eye(n, device=kernel.device))  # a particle does not repel itself
    scaled = (particles - particles.mean(1, keepdim=True)) / sigma  # sigma squared may underflow
    repulsion = (scaled * others.sum(2, keepdim=True) - others @ scaled) / sigma
    return (kernel @ gradients + repulsion) / n, others.sum() / max(groups * n * (n - 1), 1)
