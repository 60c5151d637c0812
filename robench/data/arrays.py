"""Images and labels brought from the forms that arrays have elsewhere to those of robench; torch is not imported.

What an array holds is told from its shape, its type and its values where they leave no doubt, and refused elsewhere.
"""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from robench.utils.errors import Notice, UserError, first_line

Arrays = tuple[np.ndarray, np.ndarray]
"""images [N, C, H, W] and labels [N]"""

CHANNELS = (1, 3)
"""Of images, as a rule."""

LAYOUTS = {"NCHW": 1, "NHWC": 3}
"""Where the channels are."""


def plain(value: Any, where: str) -> np.ndarray:
    """Anything like an array as one of NumPy's, without Python objects."""
    try:
        array = np.asarray(value)
    except Exception as error:  # whatever the value does
        raise UserError(f"{where}: expected an array, got {type(value).__name__} ({first_line(error)})") from None
    if array.dtype.hasobject:
        raise UserError(f"{where}: expected plain arrays, got one of Python objects; save numbers of one shape")
    return array


def images(array: np.ndarray, where: str, layout: str | None = None) -> np.ndarray:
    """Images [N, C, H, W], uint8 or float32 in [0, 1], from [N, H, W], [N, C, H, W] or [N, H, W, C] in 8 or 16 bits, in
    floats or in booleans."""
    return _writable(_scaled(_channels_first(array, where, layout), where))


def labels(array: np.ndarray, where: str) -> np.ndarray:
    """Labels [N], int64, from whole numbers [N] or [N, 1] of any type, or from one-hot rows [N, classes]."""
    if array.dtype.kind not in "buif":
        raise UserError(f"{where}: expected integer labels, got {_kind(array)}; number the classes from 0")
    if array.ndim == 2 and array.shape[1] > 1:
        return _from_one_hot(array, where)
    if array.ndim == 2:
        array = array[:, 0]
    if array.ndim != 1:
        raise UserError(f"{where}: expected labels (N,), (N, 1) or one-hot (N, classes), got {array.shape}")
    if array.dtype.kind == "f" and not (np.isfinite(array).all() and (array == np.floor(array)).all()):
        raise UserError(f"{where}: expected integer labels, got {_kind(array)} that are not whole")
    return array.astype(np.int64)


def _from_one_hot(array: np.ndarray, where: str) -> np.ndarray:
    if not (np.isin(array, (0, 1)).all() and (array.sum(1) == 1).all()):
        raise UserError(
            f"{where}: expected one label an image, got {array.shape} that are not one-hot; keep one class of each"
        )
    found: np.ndarray = array.argmax(1).astype(np.int64)
    return found


def _channels_first(array: np.ndarray, where: str, layout: str | None) -> np.ndarray:
    if array.ndim == 3:
        return array[:, None]
    if array.ndim != 4:
        raise UserError(
            f"{where}: expected images (N, channels, height, width), (N, height, width, channels) or "
            f"(N, height, width), got {array.shape}; reshape them"
        )
    layout = layout or layout_of(array.shape)
    if layout is None:
        raise UserError(
            f"{where}: images of shape {array.shape} may have their channels second or last; say ?layout=NCHW or "
            "?layout=NHWC after the file, or give a Split of robench, whose channels are second"
        )
    return array.transpose(0, 3, 1, 2) if layout == "NHWC" else array


def layout_of(shape: Sequence[int]) -> str | None:
    """Of images [N, ., ., .] the one layout in which the channels are 1 or 3; where both or none are, the one in which
    images are square; None where both or none are again."""
    usual = [layout for layout, axis in LAYOUTS.items() if shape[axis] in CHANNELS]
    if len(usual) == 1:
        return usual[0]
    sides = {
        layout: [size for place, size in enumerate(shape) if place not in (0, axis)] for layout, axis in LAYOUTS.items()
    }
    square = [layout for layout in LAYOUTS if sides[layout][0] == sides[layout][1] > 1]
    return square[0] if len(square) == 1 else None


def _scaled(array: np.ndarray, where: str) -> np.ndarray:
    """In [0, 1] as float32, or uint8: by the type where it tells the scale, else by the bits that the values need."""
    if array.dtype.kind not in "buif":
        raise UserError(f"{where}: expected images as uint8 or floats in [0, 1], got {_kind(array)}")
    if not array.size:
        return array.astype(np.uint8 if array.dtype == np.uint8 else np.float32)
    if array.dtype == bool:
        return array.astype(np.float32)
    low, high = float(array.min()), float(array.max())
    if array.dtype == np.uint8:
        if high == 1:
            raise UserError(f"{where}: images of uint8 hold 0 and 1 alone; save them as booleans or floats")
        if 1 < high < 2**7:
            warnings.warn(f"{where}: the brightest of its 8-bit images reaches {high:g} of 255", Notice, stacklevel=2)
        return array
    if array.dtype.kind == "f" and low >= 0 and high <= 1:
        return array.astype(np.float32)
    if low >= 0 and high < 2**16 and (array.dtype.kind != "f" or (array == np.floor(array)).all()):
        if 2**7 <= high < 2**8:
            return array.astype(np.uint8)
        if high >= 2**15:
            return (array / (2**16 - 1)).astype(np.float32)
    raise UserError(
        f"{where}: expected images in [0, 1], got {_kind(array)} from {low:g} to {high:g}{_remedy(low, high)}"
    )


def _remedy(low: float, high: float) -> str:
    if low < 0:
        return "; undo their normalisation (x * std + mean): the model's own is part of the model"
    return "; divide them by the largest value of their scale, such as 255" if high > 1 else ""


def _kind(array: np.ndarray) -> str:
    return "text" if array.dtype.kind in "US" else str(array.dtype)


def _writable(array: np.ndarray) -> np.ndarray:
    """As libraries need it that take views or write."""
    return np.require(array, requirements=["C", "W"])
