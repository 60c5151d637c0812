"""How good an epoch is: accuracy on images held out from training, clean and under a short PGD.

Robust overfitting is real (Rice et al. 2020): the last epoch is seldom the most robust.
"""

import torch
from torch import Tensor, nn

from robench.data.datasets import Split
from robench.losses import cross_entropy
from robench.threat import ThreatModel
from robench.training.defense import Batch
from robench.training.inner_max import ascend, evaluating, start_points
from robench.training.rng import BatchGenerator

STEPS = 10
BATCH_SIZE = 250


def held_out_accuracy(
    model: nn.Module, held_out: Split, threat: ThreatModel, generator: BatchGenerator
) -> dict[str, float]:
    """`clean`, and `robust` under PGD-10 with steps of eps/4 from a uniform start: parts of the images held out, which
    the processes of a training share."""
    processes = generator.share.processes
    right = torch.zeros(2, dtype=torch.int64, device=held_out.labels.device)
    with evaluating(model):
        for first in range(0, len(held_out), BATCH_SIZE):
            generator.share = processes.share(min(BATCH_SIZE, len(held_out) - first))
            if not len(generator.share):
                continue
            rows = slice(first + generator.share.rows.start, first + generator.share.rows.stop)
            x, y = held_out.floats(rows), held_out.labels[rows]
            x_adv = _pgd(model, x, y, threat, generator)
            with torch.no_grad():
                correct = model(x).argmax(1) == y
                right += torch.stack([correct.sum(), (correct & (model(x_adv).argmax(1) == y)).sum()])
    clean, robust = (sum(each) / len(held_out) for each in zip(*processes.gather(right.tolist()), strict=True))
    return {"clean": clean, "robust": robust}


def _pgd(model: nn.Module, x: Tensor, y: Tensor, threat: ThreatModel, generator: torch.Generator) -> Tensor:
    start = start_points("ball", x, threat, generator)
    size = threat.eps / 4
    return ascend(model, Batch(x, y), cross_entropy, start=start, threat=threat, steps=STEPS, step_size=size)
