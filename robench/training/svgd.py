"""Stein variational gradient descent: particles that climb a log density and keep apart."""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from robench.utils.errors import UserError

Scope = Literal["example", "batch"]
"""Which particles are coupled: those of one example, or those of the whole batch."""

Bandwidth = float | Literal["paper", "median"]
"""sigma of the kernel exp(-d^2 / (2 sigma^2)): a number, ALD's 10^(1-n), or the median heuristic."""


@dataclass(frozen=True)
class Kernel:
    """Couples `particles` of each example, or those of all examples, which stand particle-major: [n * B, ...]."""

    particles: int
    scope: Scope = "example"
    bandwidth: Bandwidth = "paper"

    def __post_init__(self) -> None:
        if not isinstance(self.bandwidth, str) and not 0 < self.bandwidth < math.inf:
            raise UserError(f"expected a bandwidth above 0, paper or median, got {self.bandwidth}")

    def steer(self, points: Tensor, gradients: Tensor) -> tuple[Tensor, Tensor]:
        """SVGD's direction at the points [n * B, ...] with the gradients of their log density, and the mean of the
        kernel between particles."""
        groups = self.group(points)
        phi, between = svgd(groups, self.group(gradients), self.sigma(groups))
        return (phi if self.scope == "batch" else phi.transpose(0, 1)).reshape(points.shape), between

    def group(self, stacked: Tensor) -> Tensor:
        """[n * B, ...] as the groups that share a kernel: [B, n, D], or [1, n * B, D]."""
        if self.scope == "batch":
            return stacked.reshape(1, len(stacked), -1)
        return stacked.reshape(self.particles, len(stacked) // self.particles, -1).transpose(0, 1)

    def sigma(self, groups: Tensor) -> Tensor:
        """The bandwidth for groups [G, n, D]: one each [G, 1, 1], or one for all."""
        if self.bandwidth == "paper":
            return groups.new_tensor(max(10.0 ** (1 - self.particles), 1e-30))  # float32 ends there
        if self.bandwidth == "median":
            n = groups.shape[1]
            if n == 1:  # nothing to be far from
                return groups.new_tensor(1.0)
            first, second = torch.triu_indices(n, n, 1, device=groups.device)
            squared = (groups[:, first] - groups[:, second]).square().sum(2).median(1).values
            return (squared / (2 * math.log(n + 1))).sqrt().clamp(min=1e-12).view(-1, 1, 1)
        return groups.new_tensor(self.bandwidth)


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
