"""Local distributional smoothness (VAT): how a prediction changes around x in the direction that changes it most."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from robench.losses import kl_divergence, softmax_distance
from robench.models.network import Network, Normalised
from robench.threat import ThreatModel
from robench.training.defense import Step
from robench.training.svgd import Bandwidth, Kernel
from robench.utils.errors import UserError

Divergence = Literal["kl", "mse"]
"""Of two predictions: KL(p || q), or the mean squared difference of their probabilities."""

Coupling = Literal["none", "example", "batch"]
"""Which particles a kernel couples: none, those of one example, or those of the whole batch."""

UNIT = ThreatModel.of("l2", 1)


def divergence(kind: Divergence, reference: Tensor, logits: Tensor) -> Tensor:
    """[B], of the predictions with these logits [B, C]."""
    return kl_divergence(reference, logits) if kind == "kl" else softmax_distance(reference, logits)


@dataclass(frozen=True)
class VirtualAdversary:
    """The points at a distance eps (l2) from x where a prediction changes most, to second order (Miyato et al. 2018).

    The change has a minimum of 0 at x, so its gradient at x + xi * d is about xi * H d with its Hessian H there, and
    `iterations` of d <- that gradient, of unit length, are the power iteration, from a uniform direction: d tends to
    the dominant eigenvector of H. Several particles are independent, or where a `scope` couples them (ALD) each step
    is SVGD's, on their directions. eps and xi are in the units of the network's normalised input; the box is left out
    of account, as in both papers.
    """

    kind: Divergence
    xi: float
    iterations: int
    particles: int
    scope: Coupling
    bandwidth: Bandwidth

    def __post_init__(self) -> None:
        if not self.xi > 0:
            raise UserError(f"expected xi above 0, got {self.xi}")
        assert self._kernel  # refuses a bandwidth that is not one

    @property
    def _kernel(self) -> Kernel:
        return Kernel(self.particles, "example" if self.scope == "none" else self.scope, self.bandwidth)

    def around(self, step: Step, x: Tensor, reference: Tensor) -> Tensor:
        """Points [n * B, ...], particle-major, around x [B, ...], where the logits are `reference` [B, C]. Passes:
        n * iterations. The mean of the kernel is logged as `kernel`."""
        if step.threat.norm != "l2":
            raise UserError(f"virtual adversaries are defined for l2, not for {step.threat.norm}; set norm=l2")
        x, reference = x.repeat(self.particles, 1, 1, 1), reference.detach().repeat(self.particles, 1)
        unit = _unit(step.model)
        d = UNIT.steepest(torch.rand(x.shape, generator=step.generator, dtype=x.dtype, device=x.device) - 0.5)
        for _ in range(self.iterations):
            d = d.detach().requires_grad_()
            change = divergence(self.kind, reference, step.model(x + self.xi * unit * d))
            (gradient,) = torch.autograd.grad(change.sum(), d)
            if self.scope != "none":
                gradient, between = self._kernel.steer(d.detach(), gradient)
                step.log(kernel=between)
            d = UNIT.steepest(gradient)
        return x + step.threat.eps * unit * d


@contextmanager
def untracked(model: nn.Module) -> Iterator[None]:
    """Batch norm in training mode goes by the batch, but leaves its running statistics as they are."""
    norms = (layer for layer in model.modules() if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d))
    layers = [layer for layer in norms if layer.track_running_stats]
    for layer in layers:
        layer.track_running_stats = False
    try:
        yield
    finally:
        for layer in layers:
            layer.track_running_stats = True


def _unit(model: nn.Module) -> Tensor | float:
    """What a unit of the network's normalised input is in each channel of an image."""
    return model.normalize.std if isinstance(model, Network | Normalised) else 1.0
