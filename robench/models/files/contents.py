"""The tensors and numbers in what a file holds, by the keys that lead to each."""

from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor

DEEP = 32
"""Containers in containers; no checkpoint goes so deep."""

Path = tuple[str, ...]
"""The keys from the whole to a part; a key with dots, as in a state dict, is several."""


@dataclass(frozen=True)
class Contents:
    """`tensors` and `numbers` by their paths, and of each tensor the mapping or list that `holder` names it by."""

    tensors: dict[Path, Tensor] = field(default_factory=dict)
    holder: dict[Path, Path] = field(default_factory=dict)
    numbers: dict[Path, tuple[float, ...]] = field(default_factory=dict)
    """numbers, and lists of numbers alone"""


def contents_of(document: Any) -> Contents:
    """Of mappings, lists and namespaces; each container once on the way to itself."""
    found = Contents()
    for path, holder, value in _leaves(document, (), (), frozenset()):
        if isinstance(value, Tensor):
            found.tensors[path] = value.detach()
            found.holder[path] = holder
        else:
            found.numbers[path] = value
    return found


def word(path: Path) -> str:
    """A path as people write it."""
    return ".".join(path) or "."


def _leaves(value: Any, path: Path, holder: Path, within: frozenset[int]) -> Iterator[tuple[Path, Path, Any]]:
    if isinstance(value, np.ndarray | np.generic):
        value = _as_tensor(value)
    if isinstance(value, Tensor):
        yield path, holder, value
    elif (numbers := _numbers(value)) is not None:
        yield path, holder, numbers
    elif id(value) not in within and len(within) < DEEP:
        for key, part in _items(value):
            yield from _leaves(part, (*path, *str(key).split(".")), path, within | {id(value)})


def _items(value: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(value, Mapping):
        yield from value.items()
    elif isinstance(value, list | tuple):
        yield from enumerate(value)
    elif isinstance(value, Namespace | SimpleNamespace):
        yield from vars(value).items()


def _as_tensor(array: np.ndarray | np.generic) -> Any:
    """An array as a tensor; None of texts, dates and objects."""
    plain = np.asarray(array)
    if plain.dtype.kind not in "biufc" or plain.dtype.itemsize > 16:
        return None
    try:
        return torch.from_numpy(np.array(plain, dtype=plain.dtype.newbyteorder("=")))
    except TypeError:  # of a kind that torch lacks
        return None


def _numbers(value: Any) -> tuple[float, ...] | None:
    if _is_number(value):
        return (float(value),)
    is_list = isinstance(value, Sequence) and not isinstance(value, str | bytes)
    if is_list and len(value) and all(map(_is_number, value)):
        return tuple(map(float, value))
    return None


def _is_number(value: Any) -> bool:
    is_whole = isinstance(value, int) and not isinstance(value, bool) and value.bit_length() < 64
    return is_whole or isinstance(value, float)
