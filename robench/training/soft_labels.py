"""Labels as shares of the classes: smoothed, or mixed with those of other images."""

import torch
from torch import Tensor
from torchvision.transforms import v2

from robench.training.defense import Batch, Defense
from robench.training.setup import Setup
from robench.utils.errors import UserError


def check_softened(setup: Setup, defense: Defense, name: str) -> None:
    """Raises UserError where labels are to be softened that the defense's losses need whole."""
    if setup.softens and not defense.soft_labels:
        raise UserError(f"{name} needs whole labels, one class for each image; {setup.softens[0]} makes shares of them")


def softened(batch: Batch, setup: Setup, classes: int) -> Batch:
    """The batch with y [B, classes] where the setup asks for that; mixing draws from torch's global stream."""
    if not setup.softens:
        return batch
    x, y = batch.x, batch.y
    if setup.mixup_alpha is not None:
        x, y = v2.MixUp(alpha=setup.mixup_alpha, num_classes=classes)(x, y)
    elif setup.cutmix_alpha is not None:
        x, y = v2.CutMix(alpha=setup.cutmix_alpha, num_classes=classes)(x, y)
    return Batch(x, smoothed(y, classes, setup.label_smoothing or 0.0), batch.more)


def smoothed(y: Tensor, classes: int, share: float) -> Tensor:
    """y [B] or [B, classes] as shares [B, classes], `share` of each spread over all classes (Szegedy et al. 2016)."""
    whole = torch.nn.functional.one_hot(y, classes).float() if y.dim() == 1 else y
    return (1 - share) * whole + share / classes
