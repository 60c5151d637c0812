"""Noise on every input: a test-time transform that draws."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robench.models.transformed import Transformed
from robench.threat import ThreatModel
from robench.training.defense import MODEL, Batch, Defense, Step
from robench.training.rng import normal


@dataclass(frozen=True)
class InputNoise(Defense):
    """ce(f(x + sigma * r), y), r ~ N(0, I), drawn in training and at test time alike (Liu et al. 2018).

    Without the certificate of randomised smoothing (Cohen et al. 2019), for which one predicts by thousands of draws.
    Whoever attacks the expectation over draws sees through it. Passes a step: 1.
    """

    soft_labels = True

    sigma: float = 0.1

    def losses(self, batch: Batch, step: Step) -> dict[str, Tensor]:
        noise = normal(batch.x.shape, step.generator)
        return {MODEL: F.cross_entropy(step.model(batch.x + self.sigma * noise), batch.y)}

    def deploy(self, players: Mapping[str, nn.Module], threat: ThreatModel) -> nn.Module:
        return Noisy(players[MODEL], self.sigma)


class Noisy(Transformed):
    """A model behind noise of standard deviation `sigma`, in units of the pixels."""

    def __init__(self, model: nn.Module, sigma: float) -> None:
        super().__init__(model)
        self.sigma = sigma

    def transformed(self, x: Tensor) -> Tensor:
        return x + self.sigma * torch.randn_like(x)
