"""Triplet loss adversarial training (TLA)."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from robench.models.transformed import as_network
from robench.threat import Size
from robench.training.defense import MODEL, Batch, Defense, Step
from robench.training.inner_max import Start, pgd
from robench.training.rng import uniform


@dataclass(frozen=True)
class TLA(Defense):
    """ce(f(x_adv), y) + weight * triplet + norm_weight * |features|, x_adv by PGD on ce (Mao et al. 2019).

    The triplet loss is on the angular distance of penultimate features: the anchor is the adversarial image, the
    positive a clean image of its class (another one of the batch where there is one), the negative the clean image of
    another class nearest to it; it wants the first nearer than the second by `margin`. The last term keeps the
    features' l2 norms small. Passes a step: steps + 2.
    """

    weight: float = 2.0
    margin: float = 0.03
    norm_weight: float = 0.001
    steps: int = 7
    step_size: Size = "eps/4"
    start: Start = "ball"

    @property
    def couples(self) -> bool:
        return True

    def losses(self, batch: Batch, step: Step) -> dict[str, Tensor]:
        x, y = batch.x, batch.y
        x_adv = pgd(step, batch, start=self.start, steps=self.steps, step_size=self.step_size)
        network = as_network(step.model)
        anchors, clean = network.features(x_adv), network.features(x)
        triplet = triplet_loss(anchors, clean, y, self.margin, step.generator)
        norms = torch.cat([anchors, clean]).norm(dim=1).mean()
        risk = F.cross_entropy(network.head(anchors), y)
        step.log(triplet=triplet)
        return {MODEL: risk + self.weight * triplet + self.norm_weight * norms}


def triplet_loss(anchors: Tensor, clean: Tensor, y: Tensor, margin: float, generator: torch.Generator) -> Tensor:
    """The mean over anchors [B, D] of max(0, d(a, p) - d(a, n) + margin), d = 1 - |cos|; p and n among clean [B, D]."""
    distance = 1 - (F.normalize(anchors, dim=1) @ F.normalize(clean, dim=1).T).abs()
    same = y[:, None] == y[None]
    itself = torch.eye(len(y), dtype=torch.bool, device=y.device)
    chance = uniform(same.shape, generator)
    positive = (chance + 1).where(same & ~itself, chance * 0.0).where(same, -1.0).argmax(1)
    to_positive = distance.gather(1, positive[:, None]).squeeze(1)
    to_negative = distance.masked_fill(same, torch.inf).amin(1)
    return F.relu(to_positive - to_negative + margin).mean()
