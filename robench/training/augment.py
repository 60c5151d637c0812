"""Random crops, flips and holes of a batch, on its device."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from robench.training.rng import integers, uniform

PADDING = 4


def augment(x: Tensor, kinds: Sequence[str], generator: torch.Generator) -> Tensor:
    """x [B, C, H, W] with `crop` (zero padding by 4, a window of the old size), `flip` (left to right, half) and
    `cutout` (a square of half the height, zero, around a pixel anywhere; DeVries & Taylor 2017)."""
    if "crop" in kinds:
        x = _crop(x, generator)
    if "flip" in kinds:
        flipped = uniform((len(x), 1, 1, 1), generator) < 0.5
        x = x.flip(3).where(flipped, x)
    return _cut_out(x, generator) if "cutout" in kinds else x


def _crop(x: Tensor, generator: torch.Generator) -> Tensor:
    count, _, height, width = x.shape
    padded = F.pad(x, [PADDING] * 4)
    top, left = integers(0, 2 * PADDING + 1, (2 * count, 1), generator).view(2, count, 1)
    rows = (top + torch.arange(height, device=x.device))[:, None, :, None]
    columns = (left + torch.arange(width, device=x.device))[:, None, None, :]
    channels = torch.arange(x.shape[1], device=x.device)[None, :, None, None]
    return padded[torch.arange(count, device=x.device)[:, None, None, None], channels, rows, columns]


def _cut_out(x: Tensor, generator: torch.Generator) -> Tensor:
    count, _, height, width = x.shape
    row, column = integers(0, height, (count, 1), generator), integers(0, width, (count, 1), generator)
    rows = torch.arange(height, device=x.device) - row + height // 4
    columns = torch.arange(width, device=x.device) - column + height // 4
    inside = [(each >= 0) & (each < height // 2) for each in (rows, columns)]
    return x.masked_fill((inside[0][:, :, None] & inside[1][:, None, :])[:, None], 0.0)
