"""Adversarial weight perturbation (AWP)."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from robench.training.defense import MODEL, Batch, Defense, Step
from robench.training.recipe import written


@dataclass(frozen=True)
class AWP(Defense):
    """Another defense, its gradient taken where the weights were moved to raise its loss (Wu et al. 2020).

    w <- w + gamma * |w| * g / |g| for each tensor of two dimensions or more, g the gradient of the loss; after the
    update's gradient is taken the move is undone. The adversarial images are those found at the weights unmoved, where
    the defense finds them through `Step.once`; batch norm's statistics are updated once. gamma is 0.01, with TRADES
    0.005. `wraps` is a defense with its settings if any: "trades:beta=6,steps=10". Passes a step: its own, and as many
    again less those that find the images.
    """

    gamma: float = 0.01
    wraps: str = "pgd_at"

    @cached_property
    def inner(self) -> Defense:
        return written(self.wraps)

    @property
    def couples(self) -> bool:
        return self.inner.couples

    def losses(self, batch: Batch, step: Step) -> dict[str, Tensor]:
        return self.inner.losses(batch, step)

    @contextmanager
    def around_update(self, batch: Batch, step: Step) -> Iterator[None]:
        weights = [weight for weight in step.model.parameters() if weight.requires_grad and weight.dim() > 1]
        moves = self._moves(batch, step, weights)
        _add(weights, moves, 1.0)
        try:
            yield
        finally:
            _add(weights, moves, -1.0)

    def _moves(self, batch: Batch, step: Step, weights: list[nn.Parameter]) -> list[Tensor]:
        statistics = {name: buffer.clone() for name, buffer in step.model.named_buffers()}
        gradients = torch.autograd.grad(self.inner.losses(batch, step)[MODEL], weights)
        step.average(gradients)
        with torch.no_grad():
            for name, buffer in step.model.named_buffers():
                buffer.copy_(statistics[name])
        return [
            self.gamma * weight.detach().norm() * gradient / (gradient.norm() + 1e-12)
            for weight, gradient in zip(weights, gradients, strict=True)
        ]


@torch.no_grad()
def _add(weights: list[nn.Parameter], moves: list[Tensor], factor: float) -> None:
    for weight, move in zip(weights, moves, strict=True):
        weight.add_(move, alpha=factor)
