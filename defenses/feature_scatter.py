"""Feature scattering."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from robench.losses import smoothed, soft_cross_entropy
from robench.training.defense import MODEL, Batch, Defense, Step
from robench.training.inner_max import Start, evaluating, start_points


@dataclass(frozen=True)
class FeatureScatter(Defense):
    """ce(f(x_adv), smoothed y), x_adv one step of eps that moves the batch's logits as a whole (Zhang & Wang 2019).

    From a uniform start the step raises the optimal-transport distance between the logits of the clean and of the
    perturbed batch, with cost 1 - cosine. No label is involved, and the examples of a batch move together. The attacked
    network is in evaluation mode. Known to fall to attacks that its gradient does not lead, FeaAttack among them.
    Passes a step: 3, one of them (the clean logits) forward only.
    """

    smoothing: float = 0.5
    start: Start = "ball"
    regularisation: float = 0.01
    rounds: int = 100
    tolerance: float = 0.1

    @property
    def couples(self) -> bool:
        return True

    def losses(self, batch: Batch, step: Step) -> dict[str, Tensor]:
        x, y = batch.x, batch.y
        start = start_points(self.start, x, step.threat, step.generator).requires_grad_()
        with evaluating(step.model):
            with torch.no_grad():
                clean = step.model(x)
            cost = 1 - F.normalize(step.model(start), dim=1) @ F.normalize(clean, dim=1).T
            distance = transport(cost, self.regularisation, self.rounds, self.tolerance)
            (gradient,) = torch.autograd.grad(distance, start)
        x_adv = step.threat.project(start.detach() + step.threat.eps * step.threat.steepest(gradient), x)
        step.log(transport=distance)
        logits = step.model(x_adv)
        return {MODEL: soft_cross_entropy(logits, smoothed(y, logits.shape[1], self.smoothing)).mean()}


def transport(cost: Tensor, regularisation: float, rounds: int, tolerance: float) -> Tensor:
    """The cost [B, B] of Sinkhorn's plan between uniform marginals, differentiable through its rounds.

    Rounds stop when a potential moves by less than `tolerance`, summed over its B entries.
    """
    rows, columns = cost.shape
    log_row, log_column = -torch.log(torch.tensor([float(rows), float(columns)], device=cost.device))
    u, v = torch.zeros_like(cost[:, 0]), torch.zeros_like(cost[0])
    for _ in range(rounds):
        before = u
        u = regularisation * (log_row - torch.logsumexp((v[None] - cost) / regularisation, 1))
        v = regularisation * (log_column - torch.logsumexp((u[:, None] - cost) / regularisation, 0))
        if float((u - before).abs().sum().detach()) < tolerance:
            break
    plan = torch.exp((u[:, None] + v[None] - cost) / regularisation)
    return (plan * cost).sum()
