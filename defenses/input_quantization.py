"""Fewer grey levels: a test-time transform of the input."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from robench.models.transformed import Transformed
from robench.threat import ThreatModel
from robench.training.defense import MODEL, Batch, Defense, Step


@dataclass(frozen=True)
class InputQuantization(Defense):
    """ce(f(q(x)), y), q rounding each pixel to one of `levels` values (bit-depth reduction, Xu et al. 2018).

    Rounding has no slope, so a naive attacker sees a gradient of zero; the backward pass here takes it for the identity
    (straight-through, Athalye et al. 2018), which an adaptive attacker would. It is no defense against that one.
    Passes a step: 1.
    """

    soft_labels = True

    levels: int = 8

    def losses(self, batch: Batch, step: Step) -> dict[str, Tensor]:
        return {MODEL: F.cross_entropy(self.deploy(step.players, step.threat)(batch.x), batch.y)}

    def deploy(self, players: Mapping[str, nn.Module], threat: ThreatModel) -> nn.Module:
        return Quantized(players[MODEL], self.levels)


class Quantized(Transformed):
    """A model behind the rounding of its input, with a straight-through gradient."""

    def __init__(self, model: nn.Module, levels: int) -> None:
        super().__init__(model)
        self.steps = max(levels - 1, 1)

    def transformed(self, x: Tensor) -> Tensor:
        return x + ((x * self.steps).round() / self.steps - x).detach()
