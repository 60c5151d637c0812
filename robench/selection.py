"""How good an epoch is: accuracy on images held out from training, clean and under a short PGD.

Robust overfitting is real (Rice et al. 2020): the last epoch is seldom the most robust.
"""

import torch
from torch import Tensor, nn

from robench.ascend import ascend, evaluating, start_points
from robench.data import Split
from robench.losses import cross_entropy
from robench.threat import ThreatModel

STEPS = 10
BATCH_SIZE = 250


def held_out_accuracy(
    model: nn.Module, held_out: Split, threat: ThreatModel, generator: torch.Generator
) -> dict[str, float]:
    """`clean`, and `robust` under PGD-10 with steps of eps/4 from a uniform start: shares of the images held out."""
    clean = robust = 0
    with evaluating(model):
        for first in range(0, len(held_out), BATCH_SIZE):
            rows = slice(first, first + BATCH_SIZE)
            x, y = held_out.floats(rows), held_out.labels[rows]
            x_adv = _pgd(model, x, y, threat, generator)
            with torch.no_grad():
                correct = model(x).argmax(1) == y
                clean += int(correct.sum())
                robust += int((correct & (model(x_adv).argmax(1) == y)).sum())
    return {"clean": clean / len(held_out), "robust": robust / len(held_out)}


def _pgd(model: nn.Module, x: Tensor, y: Tensor, threat: ThreatModel, generator: torch.Generator) -> Tensor:
    start = start_points("ball", x, threat, generator)
    size = threat.eps / 4
    return ascend(model, lambda logits: cross_entropy(logits, y), x, start, threat, steps=STEPS, step_size=size)
