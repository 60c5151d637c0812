"""The inner maximisation of adversarial training, shared by all defenses."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from torch import Tensor, nn

from robench.losses import Loss, check_self_contained, cross_entropy, evaluated
from robench.threat import ThreatModel
from robench.training.defense import Batch, Step
from robench.training.rng import normal, uniform
from robench.utils.sizes import Size

Start = Literal["clean", "ball", "near_uniform", "near_normal"]
"""Where it begins: at x, at a uniform point of the ball, or within about 0.001 of x."""

NEAR = 1e-3


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """The model in evaluation mode: batch norm by its running statistics, no dropout."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)


def start_points(kind: Start, x: Tensor, threat: ThreatModel, generator: torch.Generator) -> Tensor:
    """A start for each of x [B, ...], projected; randomness from `generator`, which is on the device of x."""
    if kind == "clean":
        return x
    if kind == "near_uniform":
        offset = NEAR * (2 * uniform(x.shape, generator) - 1)
    elif kind == "near_normal":
        offset = NEAR * normal(x.shape, generator)
    elif threat.norm == "linf":
        offset = threat.ball_point(uniform(x.shape, generator))
    else:
        offset = threat.ball_point(uniform((len(x),), generator), normal(x.shape, generator))
    return threat.project(x + offset, x)


def ascend(
    model: nn.Module,
    batch: Batch,
    loss: Loss,
    *beside: Tensor,
    start: Tensor,
    threat: ThreatModel,
    steps: int,
    step_size: float,
    direction: Callable[[Tensor, Tensor], Tensor] | None = None,
) -> Tensor:
    """Steps from `start` up `loss(output, y, *beside)` [B], projected around x [B, ...] each time; no example leaves.

    The loss is as attacks have it (`robench.losses`): what belongs to each example is given beside it, [B, ...].
    `direction(x_adv, gradient)` replaces the gradient where a method does not follow it. Costs `steps` forward and
    backward passes; no gradient of a parameter is computed.
    """
    check_self_contained(loss)
    x_adv = start
    with evaluating(model):
        for _ in range(steps):
            x_adv = x_adv.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(evaluated(loss, model(x_adv), batch.y, *beside).sum(), x_adv)
            with torch.no_grad():
                gradient = gradient.contiguous()  # a network in channels-last gives it so
                ascent = gradient if direction is None else direction(x_adv, gradient)
                x_adv = threat.project(x_adv + step_size * threat.steepest(ascent), batch.x)
    return x_adv.detach()


def adversary(
    step: Step, batch: Batch, loss: Loss, *beside: Tensor, start: Start, steps: int, step_size: Size
) -> Tensor:
    """`ascend` in a step of training, from a start by its name; found once in a step, however often it is asked for."""
    return step.once(
        "x_adv",
        lambda: ascend(
            step.model,
            batch,
            loss,
            *beside,
            start=start_points(start, batch.x, step.threat, step.generator),
            threat=step.threat,
            steps=steps,
            step_size=step.size(step_size),
        ),
    )


def pgd(step: Step, batch: Batch, *, start: Start, steps: int, step_size: Size) -> Tensor:
    """`adversary` up the cross-entropy."""
    return adversary(step, batch, cross_entropy, start=start, steps=steps, step_size=step_size)
