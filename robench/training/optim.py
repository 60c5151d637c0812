"""How the model's weights move: its optimizer, its learning rate over the epochs, and their moving average."""

import math

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from robench.training.recipe import Setup


def optimizer(setup: Setup, model: nn.Module) -> torch.optim.Optimizer:
    if setup.adam_beta1 is not None:
        betas = (setup.adam_beta1, 0.999)
        return torch.optim.Adam(model.parameters(), lr=setup.lr, betas=betas, weight_decay=setup.weight_decay)
    return torch.optim.SGD(
        model.parameters(),
        lr=setup.lr,
        momentum=setup.momentum,
        nesterov=setup.nesterov,
        weight_decay=setup.weight_decay,
    )


def learning_rate(setup: Setup, epoch: float) -> float:
    """At an epoch, as a fraction, from the start of training."""
    if setup.lr_end is None:
        return setup.lr * setup.drop_factor ** sum(drop <= int(epoch) for drop in setup.drops)
    return setup.lr_end + (setup.lr - setup.lr_end) * (1 + math.cos(math.pi * epoch / setup.epochs)) / 2


def averaged(model: nn.Module, decay: float, device: torch.device) -> AveragedModel:
    """The moving average of the model's parameters (Polyak); its buffers are the model's own, as in DIRT-T."""
    return AveragedModel(model, device, multi_avg_fn=get_ema_multi_avg_fn(decay))  # type: ignore[no-untyped-call]
