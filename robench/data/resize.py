"""Images brought to another size or to other channels, so that one network takes two data sets."""

import re
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from robench.utils.errors import UserError

LUMA = (0.299, 0.587, 0.114)
"""Of red, green and blue in a grey image (ITU-R BT.601)."""

CHUNK = 4096


def named(name: str) -> tuple[str, tuple[int, int, int] | None]:
    """The data set and the shape [C, H, W] that "mnist@3x32x32" asks for; None where it asks for none."""
    found = re.fullmatch(r"(.+)@(\d+)x(\d+)x(\d+)", name)
    if not found:
        return name, None
    channels, height, width = (int(found[part]) for part in (2, 3, 4))
    if channels not in (1, 3) or not (height and width):
        raise UserError(f"expected a shape such as 1x28x28 or 3x32x32 after {found[1]}@, got {name}")
    return found[1], (channels, height, width)


def name_of(name: str, shape: Sequence[int]) -> str:
    """What to call a data set in a shape."""
    return f"{named(name)[0]}@{'x'.join(map(str, shape))}"


def common(first: Sequence[int], second: Sequence[int]) -> tuple[int, int, int]:
    """The larger of two shapes [C, H, W] in each, so that nothing of either is lost."""
    channels, height, width = map(max, first, second)
    return channels, height, width


def resized(images: Tensor, shape: Sequence[int], where: str) -> Tensor:
    """images [N, ...], uint8 or floats in [0, 1], as uint8 in this shape [C, H, W]: bilinear, averaging where it
    shrinks; grey for colours, or colours alike for grey."""
    if images.shape[1] not in (1, 3):
        raise UserError(f"{where}: expected 1 or 3 channels to resize, got {images.shape[1]}")
    return torch.cat([_resized(chunk, shape) for chunk in torch.split(images, CHUNK)])


def _resized(images: Tensor, shape: Sequence[int]) -> Tensor:
    channels, *size = shape
    x = images.float() / 255 if images.dtype == torch.uint8 else images
    if x.shape[1] == 3 and channels == 1:
        x = (x * x.new_tensor(LUMA).view(1, 3, 1, 1)).sum(1, keepdim=True)
    if list(x.shape[2:]) != size:
        x = F.interpolate(x, size=size, mode="bilinear", antialias=True)
    return (255 * x).round().clamp(0, 255).to(torch.uint8).expand(-1, channels, -1, -1)
