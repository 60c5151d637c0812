"""What attacks raise and defenses lower: functions of logits [B, C] and labels [B] that give one value per example."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

Loss = Callable[[Tensor, Tensor], Tensor]


def cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(logits, y, reduction="none")


def margin(logits: Tensor, y: Tensor) -> Tensor:
    """max_{j != y} z_j - z_y (Carlini & Wagner 2017), above 0 exactly where the prediction is wrong."""
    true = logits.gather(1, y[:, None]).squeeze(1)
    return logits.scatter(1, y[:, None], -torch.inf).amax(1) - true


def dlr(logits: Tensor, y: Tensor) -> Tensor:
    """The difference of logits ratio: the margin over z_1 - z_3, the first less the third in order (Croce & Hein 2020,
    eq. 6). It needs 3 classes."""
    first, _, third = logits.topk(3, dim=1).values.unbind(1)
    return margin(logits, y) / (first - third).clamp(min=1e-12)


def others(logits: Tensor, y: Tensor) -> Tensor:
    """The classes but y, [B, C - 1], from the highest logit down."""
    order = logits.argsort(dim=1, descending=True, stable=True)
    return order[order != y[:, None]].view(len(y), -1)


def towards(target: Tensor) -> Loss:
    """The margin z_t - z_y to a class t [B] of each example, above 0 only where the prediction is wrong."""
    return lambda logits, y: (logits.gather(1, target[:, None]) - logits.gather(1, y[:, None])).squeeze(1)


def kl_divergence(clean: Tensor, adversarial: Tensor) -> Tensor:
    """KL(softmax(clean) || softmax(adversarial)), both logits [B, C]."""
    return F.kl_div(F.log_softmax(adversarial, 1), F.log_softmax(clean, 1), reduction="none", log_target=True).sum(1)


def softmax_distance(first: Tensor, second: Tensor) -> Tensor:
    """The mean squared difference of the probabilities of two predictions, both logits [B, C]."""
    return (first.softmax(1) - second.softmax(1)).square().mean(1)


def smoothed(y: Tensor, classes: int, amount: float) -> Tensor:
    """Labels [B] as probabilities [B, C]: 1 - amount for the class itself, and the rest shared by the others alone
    (PyTorch's smoothing gives the class a share of the rest too)."""
    others = torch.full((len(y), classes), amount / (classes - 1), device=y.device)
    return others.scatter(1, y[:, None], 1 - amount)


def soft_cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """[B], for target probabilities [B, C]."""
    return -(target * F.log_softmax(logits, 1)).sum(1)
