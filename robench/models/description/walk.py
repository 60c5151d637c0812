"""A walk through everything that a thing refers to."""

import hashlib
import os
import types
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from torch import Tensor

ATOMS = (bool, int, float, complex, str, bytes, types.NoneType, types.EllipsisType, types.NotImplementedType, range)
"""Types whose `repr` is all that there is."""


class Walk:
    """Hashes each object once. `parts` gives the texts that a value's hash is made of; the values of the tensors
    `apart` do not enter."""

    def __init__(self, parts: Callable[[Any, "Walk"], Iterator[str]], apart: Iterable[Tensor] = ()) -> None:
        self.hidden: list[str] = []
        self._parts = parts
        self._apart = {id(tensor) for tensor in apart}
        self._known: dict[int, str] = {}
        self._within: dict[int, int] = {}
        """the objects that this one is part of, by their depth"""
        self._kept: list[Any] = []
        """so that no other object gets the id of one that was seen"""

    def of(self, value: Any) -> str:
        """The hash of a value."""
        if type(value) is str and value.startswith(os.sep):
            return digest("str", content_at(value))
        if type(value) in ATOMS:
            return digest(type(value).__name__, repr(value))
        key = id(value)
        if key in self._known:
            return self._known[key]
        if key in self._within:
            return digest("again", str(len(self._within) - self._within[key]))
        self._kept.append(value)
        self._within[key] = len(self._within)
        try:
            found = digest(*self._parts(value, self))
        except RecursionError:
            found = self.hide(value, "goes too deep")
        except Exception as error:  # whatever the attributes of a strange object do
            found = self.hide(value, f"cannot be described ({type(error).__name__})")
        finally:
            del self._within[key]
        self._known[key] = found
        return found

    def afresh(self, value: Any) -> str:
        """The hash of a value as if it were the first that is seen."""
        if type(value) in ATOMS:
            return self.of(value)
        known = dict(self._known)
        try:
            return self.of(value)
        finally:
            self._known = known

    def hide(self, value: Any, why: str) -> str:
        """Notes that a value was not seen, and gives a text in its place."""
        kind = type(value)
        self.hidden.append(f"{_called(value) or f'an object of {kind.__module__}.{kind.__qualname__}'} {why}")
        return "hidden"

    def is_apart(self, tensor: Tensor) -> bool:
        return id(tensor) in self._apart


def digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def content_at(path: str) -> str:
    """Of a path, the file that it leads to by content, wherever that lies; nothing of a folder that exists."""
    try:
        if os.path.isfile(path):
            return hashlib.sha256(Path(path).read_bytes()).hexdigest()
        return "folder" if os.path.isdir(path) else path
    except (OSError, ValueError):
        return path


def _called(value: Any) -> str | None:
    name = getattr(value, "__qualname__", None)
    return f"{getattr(value, '__module__', '')}.{name}" if isinstance(name, str) else None
