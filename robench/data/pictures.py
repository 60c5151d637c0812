"""Encoded images and their pixels. An image is grey or in colours, as torchvision reads it: a palette and an alpha
channel become colours, and the orientation that a camera noted is left out of account."""

import io
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from PIL import Image

from robench.utils.errors import UserError, first_line

T = TypeVar("T")


def in_colours(encoded: Any) -> bool:
    """By the head of a file alone; one that cannot be read is for `decode` to name."""
    try:
        return _read(encoded, "", lambda image: not (image.mode == "L" or _is_sixteen_bits(image)))
    except UserError:
        return False


def decode(
    encoded: Any, where: str, *, channels: int | None = None, transform: Callable[[Any], Any] | None = None
) -> np.ndarray:
    """An image [C, H, W], uint8, from the bytes of a file: with this many channels, by default as many as it has."""
    return _read(encoded, where, lambda image: pixels(image, channels=channels, transform=transform))


def pixels(
    image: Image.Image, *, channels: int | None = None, transform: Callable[[Any], Any] | None = None
) -> np.ndarray:
    """Likewise of an image of PIL."""
    image = _eight_bits(image)
    if image.mode != "L" or channels == 3:
        image = image.convert("RGB")
    found = np.asarray(transform(image) if transform else image)
    return found[None] if found.ndim == 2 else found.transpose(2, 0, 1)


def _eight_bits(image: Image.Image) -> Image.Image:
    """A grey image of 16 bits in 8, where PIL's own conversion would clip it."""
    if not _is_sixteen_bits(image):
        if image.mode in ("I", "F"):
            raise UserError(f"its pixels are numbers of unknown scale (mode {image.mode}); save it in 8 or 16 bits")
        return image
    levels = np.asarray(image).astype(np.float64) / (2**16 - 1)
    return Image.fromarray((255 * levels).round().astype(np.uint8))


def _is_sixteen_bits(image: Image.Image) -> bool:
    return image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG")


def _read(encoded: Any, where: str, take: Callable[[Image.Image], T]) -> T:
    try:
        with Image.open(io.BytesIO(encoded)) as image:
            return take(image)
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
    except Exception as error:
        raise UserError(f"{where}: not an image ({first_line(error)})") from None
