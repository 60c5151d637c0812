"""How the model's weights move: its optimizer, its learning rate over the epochs, and their average."""

import math

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from robench.training.setup import Setup

WARM, COLD, RISE = 25, 250_000, 0.3
"""By how much the one-cycle schedule begins and ends below its highest rate, and the share in which it rises."""


def optimizer(setup: Setup, model: nn.Module) -> torch.optim.Optimizer:
    if setup.adaptive:
        kind = torch.optim.AdamW if setup.adaptive == "adamw" else torch.optim.Adam
        betas = (0.9 if setup.adam_beta1 is None else setup.adam_beta1, 0.999)
        return kind(model.parameters(), lr=setup.lr, betas=betas, weight_decay=setup.weight_decay)
    return torch.optim.SGD(
        model.parameters(),
        lr=setup.lr,
        momentum=setup.momentum,
        nesterov=setup.nesterov,
        weight_decay=setup.weight_decay,
    )


def learning_rate(setup: Setup, epoch: float, step: float = 0.0) -> float:
    """At an epoch, as a fraction, from the start of training; `step` is the length of a step in epochs."""
    warmed = 1.0 if setup.lr_warmup is None else min((epoch + step) / setup.lr_warmup, 1.0)
    return warmed * _scheduled(setup, epoch)


def _scheduled(setup: Setup, epoch: float) -> float:
    done = epoch / setup.epochs
    if setup.schedule == "one_cycle":
        if done < RISE:
            return _half_cosine(setup.lr / WARM, setup.lr, done / RISE)
        return _half_cosine(setup.lr, setup.lr / COLD, (done - RISE) / (1 - RISE))
    if setup.schedule == "cosine" or setup.lr_end is not None:
        return _half_cosine(setup.lr, setup.lr_end or 0.0, done)
    return setup.lr * setup.drop_factor ** sum(drop <= int(epoch) for drop in setup.drops)


def _half_cosine(start: float, end: float, done: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * done)) / 2


def averaged(setup: Setup, model: nn.Module, device: torch.device) -> AveragedModel | None:
    """The average of the model's parameters that is kept, if one is: their moving average (Polyak), or their mean over
    epochs. Its buffers are the model's own, as in DIRT-T."""
    if setup.average is not None:
        return AveragedModel(model, device, multi_avg_fn=get_ema_multi_avg_fn(setup.average))  # type: ignore[no-untyped-call]
    return None if setup.swa_from is None else AveragedModel(model, device)
