"""Shapes of points: [B, ...], one for each active example, or [B, k, ...], k for each; in one row, [B * k, ...]."""

from collections.abc import Sequence

import torch
from torch import Tensor

from robench.utils.errors import AttackError


def leading(points: Tensor, x: Tensor) -> torch.Size:
    """[B] or [B, k], of points [B, ...] or [B, k, ...] beside the examples x [B, ...]."""
    return points.shape[: points.dim() - x.dim() + 1]


def in_one_row(points: Tensor, x: Tensor) -> Tensor:
    """[B, ...] or [B, k, ...] as [B * k, ...]. Raises AttackError for points of other images than x [B, ...]."""
    before = leading(points, x)
    if points.shape[len(before) :] != x.shape[1:] or len(before) not in (1, 2) or before[0] != len(x):
        raise AttackError(f"the attack offered images of shape {tuple(points.shape)}, not {tuple(x.shape)}")
    return points.reshape(-1, *x.shape[1:])


def repeated(values: Tensor, flat: Tensor) -> Tensor:
    """Values [B, ...] as [B * k, ...], a row for each point of `flat`."""
    return values if len(flat) == len(values) else values.repeat_interleave(len(flat) // len(values), 0)


def aligned(points: Tensor, x: Tensor, beside: Sequence[Tensor]) -> list[Tensor]:
    """What is given beside a loss, with a row for each of the points in one row.

    Raises AttackError for anything but tensors [B, ...] or, beside points [B, k, ...], [B, k, ...] or [B, 1, ...].
    """
    before, rows = leading(points, x), []
    for values in beside:
        if not isinstance(values, Tensor) or values.dim() == 0 or len(values) != before[0]:
            given = f"shape {list(values.shape)}" if isinstance(values, Tensor) else type(values).__name__
            raise AttackError(
                f"expected a tensor beside the loss with a row for each of {before[0]} examples, got {given}"
            )
        if len(before) == 1:
            rows.append(values)
            continue
        values = values[:, None] if values.dim() == 1 else values
        if values.shape[1] not in (1, before[1]):
            raise AttackError(
                f"expected a tensor beside the loss of shape {list(before)} or [{before[0]}, 1] and more, as the "
                f"points have, got {list(values.shape)}"
            )
        rows.append(values.expand(*before, *values.shape[2:]).flatten(0, 1))
    return rows
