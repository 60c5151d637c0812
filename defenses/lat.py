"""Latent adversarial training (LAT)."""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from robench.losses import cross_entropy
from robench.models.transformed import as_network
from robench.threat import Size, per_example
from robench.training.defense import MODEL, Batch, Defense, Step
from robench.training.inner_max import Start, evaluating, pgd


@dataclass(frozen=True)
class LAT(Defense):
    """latent_weight * ce(h(z_adv), y) + (1 - latent_weight) * ce(f(x_adv), y), from a PGD-trained model (Sinha 2019).

    f = h o g; z_adv is found by PGD around the latent z = g(x), x_adv by PGD around x. Layer and latent radius vary
    with the network and are not stated for others: here the last feature map or the pooled features, and a radius of
    `latent_eps` times the mean magnitude of the example's latent. Start from a checkpoint of `pgd_at` (--init).
    Passes a step: steps + 2, and latent_steps of the part above the layer.
    """

    latent_weight: float = 0.2
    layer: Literal["map", "pooled"] = "map"
    latent_eps: float = 0.5
    latent_steps: int = 10
    steps: int = 7
    step_size: Size = "eps/4"
    start: Start = "ball"

    def losses(self, batch: Batch, step: Step) -> dict[str, Tensor]:
        x, y = batch.x, batch.y
        x_adv = pgd(step, batch, start=self.start, steps=self.steps, step_size=self.step_size)
        latent = self._below(step, x)
        with evaluating(step.model):
            shift = self._latent_shift(step, latent.detach(), y)
        risk = F.cross_entropy(self._above(step, latent + shift), y)
        return {MODEL: self.latent_weight * risk + (1 - self.latent_weight) * F.cross_entropy(step.model(x_adv), y)}

    def _latent_shift(self, step: Step, latent: Tensor, y: Tensor) -> Tensor:
        """Where PGD moves the latents [B, ...], from 0."""
        radius = per_example(self.latent_eps * latent.abs().flatten(1).mean(1), latent)
        shift = torch.zeros_like(latent)
        for _ in range(self.latent_steps):
            shift = shift.detach().requires_grad_()
            risk = cross_entropy(self._above(step, latent + shift), y).sum()
            (gradient,) = torch.autograd.grad(risk, shift)
            shift = (shift + radius / 4 * gradient.sign()).clamp(-radius, radius)
        return shift.detach()

    def _below(self, step: Step, x: Tensor) -> Tensor:
        network = as_network(step.model)
        return network.feature_map(x) if self.layer == "map" else network.features(x)

    def _above(self, step: Step, latent: Tensor) -> Tensor:
        network = as_network(step.model)
        return network.head(network.pool(latent) if self.layer == "map" else latent)
