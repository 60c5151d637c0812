"""Arrays by their keys: which of a file, a folder or a mapping are the images and the labels of a part."""

import pickle
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from robench.data import arrays
from robench.data.arrays import Arrays
from robench.data.parts import WORDS, Part, named
from robench.utils.errors import UserError, first_line

OPTIONS = ("image", "label", "layout")
"""Which key has the images and which the labels, and in what order the axes of the images are."""

IMAGES = {"x", "image", "images", "img", "imgs", "data", "input", "inputs"}
LABELS = {"y", "label", "labels", "target", "targets"}
NEUTRAL = {"fine"}
"""Of CIFAR-100's two sets of labels its classes."""


class Role(NamedTuple):
    """What a key says of its array: the words of a part, if any, and whether it is images or labels."""

    part: str
    images: bool


def read(path: Path, part: Part, where: str, options: Mapping[str, str]) -> Arrays:
    """The images and labels of a part from an .npz, .pt or .safetensors file, or from a folder of .npy files, with keys
    such as x_test and y_test, test_images and test_labels, or x and y, of which both parts are the same.

    Raises UserError, with the keys and shapes that are there, where these do not tell; nothing is unpickled.
    """
    with _opened(path, where) as found:
        return chosen(found, part, where, options)


def chosen(found: Mapping[str, Any], part: Part, where: str, options: Mapping[str, str] | None = None) -> Arrays:
    """Likewise of arrays by their keys."""
    options = options or {}
    layout = options.get("layout")
    if layout not in (None, *arrays.LAYOUTS):
        raise UserError(f"{where}: expected the layout {' or '.join(arrays.LAYOUTS)}, got {layout}")
    image, label = keys_of(found, part, where, options)
    if missing := [key for key in (image, label) if key not in found]:
        raise UserError(f"{where}: there is no array {missing[0]}; {_contents(found)}")
    return (
        arrays.images(_array(found, image, where), where, layout),
        arrays.labels(_array(found, label, where), where),
    )


def keys_of(
    found: Mapping[str, Any], part: Part, where: str, options: Mapping[str, str] | None = None
) -> tuple[str, str]:
    """The keys of the images and of the labels of a part: as the options name them, else by what they say."""
    options = options or {}
    return (
        options.get("image") or _key(found, part, where, images=True),
        options.get("label") or _key(found, part, where, images=False),
    )


def _key(found: Mapping[str, Any], part: Part, where: str, *, images: bool) -> str:
    """The key of the images, or of the labels, of a part: by its words, or as the only one that it can be."""
    roles = {key: role for key in found if (role := _role(key))}
    words = {role.part for role in roles.values()} - {""}
    own = named(part, words, where) if words else ""  # of both, so that they are of one part
    keys = [key for key, role in roles.items() if role == (own, images)]
    if len(keys) > 1:
        raise UserError(
            f"{where}: {' and '.join(keys)} may all be the {'images' if images else 'labels'}; say which after a "
            f"question mark, ?{'image' if images else 'label'}={keys[0]}"
        )
    if keys:
        return keys[0]
    if alone := _two_arrays(found):
        return alone[0 if images else 1]
    raise UserError(
        f"{where}: expected arrays x_{part} and y_{part}, or others that ?image=KEY&label=KEY names; {_contents(found)}"
    )


def _role(key: str) -> Role | None:
    """None of a key that has other words than those of roles and parts."""
    words = [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+", key)]
    parts = [word for word in words if word in WORDS]
    kinds = [word in IMAGES for word in words if word in IMAGES | LABELS]
    if len(kinds) != 1 or len(parts) > 1 or set(words) - WORDS - IMAGES - LABELS - NEUTRAL:
        return None
    return Role(parts[0] if parts else "", kinds[0])


def _two_arrays(found: Mapping[str, Any]) -> tuple[str, str] | None:
    """The keys of images and labels where there are two arrays of one length, whose names say nothing, and only one has
    the axes of images."""
    if len(found) != 2 or any(map(_role, found)):
        return None
    shapes = {key: tuple(getattr(found[key], "shape", ())) for key in found}
    (first, one), (second, other) = sorted(shapes.items(), key=lambda item: -len(item[1]))
    alike = len(one) in (3, 4) and len(other) in (1, 2) and one[0] == other[0]
    return (first, second) if alike else None


def _array(found: Mapping[str, Any], key: str, where: str) -> np.ndarray:
    return arrays.plain(found[key], f"{where}, {key}")


LISTED = 12
"""Keys that a refusal names."""


def _contents(found: Mapping[str, Any]) -> str:
    """What is there, for a refusal."""

    def described(key: str) -> str:
        try:
            value = found[key]
        except UserError:
            return f"{key} (not a plain array)"
        kind = str(getattr(value, "dtype", type(value).__name__)).removeprefix("torch.")
        return f"{key or 'one'} {kind} {tuple(getattr(value, 'shape', ()))}"

    more = f" and {len(found) - LISTED} more" if len(found) > LISTED else ""
    return f"it holds {', '.join(map(described, list(found)[:LISTED])) or 'none'}{more}"


class Keyed(Mapping[str, Any]):
    """Arrays by their keys, each read when it is asked for."""

    def __init__(self, keys: Iterable[str], read: Callable[[str], Any], where: str) -> None:
        self._keys, self._read, self._where = list(keys), read, where

    def __getitem__(self, key: str) -> Any:
        if key not in self._keys:
            raise KeyError(key)
        try:
            return self._read(key)
        except Exception as error:  # NumPy lets zipfile's, zlib's and its own errors through
            raise UserError(f"{self._where}: expected plain arrays, {key} is none ({first_line(error)})") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)


@contextmanager
def _opened(path: Path, where: str) -> Iterator[Mapping[str, Any]]:
    if not path.exists():
        raise UserError(f"{where}: there is no such file")
    if path.is_dir():
        files = {file.stem: file for file in sorted(path.glob("*.npy"))}
        yield Keyed(files, lambda key: np.load(files[key], mmap_mode="r", allow_pickle=False), where)
    elif path.suffix == ".npy":
        raise UserError(
            f"{where}: one .npy file has no labels; name the folder, npy:{path.parent}, where there is an x_test.npy "
            "and a y_test.npy"
        )
    elif path.suffix == ".npz":
        with _npz(path, where) as archive:
            yield Keyed(archive.files, archive.__getitem__, where)
    else:
        yield flattened(_tensors(path, where))


@contextmanager
def _npz(path: Path, where: str) -> Iterator[Any]:
    try:
        archive = np.load(path, allow_pickle=False)
        if not hasattr(archive, "files"):
            raise ValueError("it is one array")
    except Exception as error:  # likewise
        raise UserError(f"{where}: not a readable archive of plain arrays ({first_line(error)})") from None
    with archive:
        yield archive


def _tensors(path: Path, where: str) -> Any:
    """What torch or safetensors saved, if it is of tensors and arrays in dictionaries and tuples alone."""
    import torch
    from safetensors.torch import load_file

    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        with torch.serialization.safe_globals(_ARRAYS):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise UserError(
            f"{where}: it is not of tensors and arrays alone, and its Python objects would run code; save a dictionary "
            'such as {"x": x, "y": y}'
        ) from None
    except Exception as error:  # of a damaged file both raise many kinds
        raise UserError(f"{where}: not a file that torch or safetensors can read ({first_line(error)})") from None


_ARRAYS: list[Any] = [
    np.ndarray,
    np.dtype,
    *{type(np.dtype(kind)) for kind in (*"?bBhHiIlLqQefd",)},
    np.ndarray.__reduce__(np.empty(0))[0],  # what rebuilds an array
]
"""What of NumPy a file may name: arrays of numbers."""


def flattened(value: Any, prefix: str = "") -> dict[str, Any]:
    """Arrays by keys from dictionaries and pairs (x, y) in one another: {"test": (x, y)} has test_x and test_y."""
    if isinstance(value, Mapping):
        return {
            key: each for name, inner in value.items() for key, each in flattened(inner, f"{prefix}{name}_").items()
        }
    if isinstance(value, tuple | list) and len(value) == 2:
        return flattened(dict(zip("xy", value, strict=True)), prefix)
    return {prefix.removesuffix("_"): value}
