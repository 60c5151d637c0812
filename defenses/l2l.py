"""Learning to learn a defense (L2L): the inner maximisation done by a network."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robench.models.generators import Blocks, PointGenerator, generator_input
from robench.training.defense import MODEL, Batch, Defense, Helper, Step
from robench.training.inner_max import evaluating
from robench.utils.errors import UserError


@dataclass(frozen=True)
class L2L(Defense):
    """ce(f(x + eps * g), y), which the model lowers and the generator of g in (-1, 1) raises (Chen et al. 2018).

    As ADT's first version re-ran it (Table 8), with its own generator, which sees x and the gradients of ce at x and at
    the FGSM point, and its own training; the original's code was never shown. Beside `adt_am` the perturbation is a
    point, not a distribution. That the generator has one step a batch, in training mode and with Adam's betas
    (0.5, 0.999), is taken from there too. For l-infinity only. Passes a step: 3, two of them for the generator's input.
    """

    filters: int = 256
    blocks: Blocks = "code"
    generator_lr: float = 2e-4

    def helpers(self, model: nn.Module, shape: Sequence[int], classes: int) -> dict[str, Helper]:
        generator = PointGenerator(shape, self.filters, self.blocks)
        adam = torch.optim.Adam(generator.parameters(), lr=self.generator_lr, betas=(0.5, 0.999))
        return {"generator": Helper(generator, adam)}

    def losses(self, batch: Batch, step: Step) -> dict[str, Tensor]:
        x, y, eps = batch.x, batch.y, step.threat.eps
        if step.threat.norm != "linf":
            raise UserError(f"l2l is defined for linf, not for {step.threat.norm}")
        with evaluating(step.model):
            seen = generator_input(step.model, x, y, eps)
        x_adv = (x + eps * step.players["generator"](seen)).clamp(0, 1)
        loss = F.cross_entropy(step.model(x_adv), y)
        return {MODEL: loss, "generator": -loss}
