"""What decides the answers of a model or a function, as one hash: all that it refers to, by value.

Followed are attributes, containers, arrays and tensors, the classes of objects and their bases, and of functions the
bytecode (of comments, docstrings and line numbers it knows nothing, and it is there where no file is), defaults, the
contents of closures, and whatever global names and attributes of modules the code mentions. An installed library is
its name and version, and robench itself the code that a class or function of it runs. No address, file name or order
of a set enters, so that the hash is the same in every process. What cannot be seen into, an open file or an object of
C without a way to its state, is named in `Description.hidden`.
"""

import enum
import logging
import sys
import threading
import types
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import PurePath
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from robench.models.description.classes import class_parts, module_parts
from robench.models.description.functions import (
    OF_C,
    c_parts,
    closure_parts,
    code_parts,
    function_parts,
    method_parts,
    partial_parts,
    property_parts,
    wrapped_parts,
)
from robench.models.description.networks import hooks_of_all, network_parts, script_parts
from robench.models.description.objects import member_parts, object_parts
from robench.models.description.tensors import array_parts, generator_parts, tensor_parts
from robench.models.description.walk import Walk, content_at, digest

IDLE = (logging.Logger, logging.LoggerAdapter, type(threading.Lock()), type(threading.RLock()))
"""Types that decide no number."""

REPRESENTED = (torch.dtype, torch.device, torch.layout, torch.memory_format, np.dtype)
"""Types whose `str` is all that there is."""


@dataclass(frozen=True)
class Description:
    """`fingerprint`: of everything that was seen. `hidden`: what was not, each in a few words; where there is any, two
    things of one fingerprint may differ."""

    fingerprint: str
    hidden: tuple[str, ...] = ()


def describe(thing: Any, apart: Iterable[Tensor] = ()) -> Description:
    """The description of a model, a function or any other object; the values of the tensors `apart` do not enter."""
    walk = Walk(_parts, apart)
    with _deep():
        found = walk.of(thing)
    if isinstance(thing, nn.Module):
        found = digest(found, *(walk.of(list(hooks.values())) for hooks in hooks_of_all()))
    return Description(found[:16], tuple(dict.fromkeys(walk.hidden)))


@contextmanager
def _deep() -> Iterator[None]:
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(max(before, 10_000))
    try:
        yield
    finally:
        sys.setrecursionlimit(before)


def _parts(value: Any, walk: Walk) -> Iterator[str]:
    return next(parts for kind, parts in _KINDS if isinstance(value, kind))(value, walk)


_KINDS: tuple[tuple[Any, Callable[[Any, Walk], Iterator[str]]], ...] = (
    (IDLE, lambda value, walk: iter(("idle",))),
    (Tensor, tensor_parts),
    (np.ndarray | np.generic, array_parts),
    (torch.Generator, generator_parts),
    (PurePath, lambda value, walk: iter(("path", content_at(str(value))))),
    (REPRESENTED, lambda value, walk: iter((type(value).__name__, str(value)))),
    (type, class_parts),
    (types.ModuleType, module_parts),
    (types.CodeType, code_parts),
    (types.FunctionType, function_parts),
    (types.MethodType, method_parts),
    (partial, partial_parts),
    (staticmethod | classmethod, wrapped_parts),
    (property, property_parts),
    (types.CellType, closure_parts),
    (weakref.ref, lambda value, walk: iter(("reference", walk.of(value())))),
    (types.MappingProxyType, lambda value, walk: iter((walk.of(dict(value)),))),
    (bytearray | memoryview, lambda value, walk: iter(("bytes", walk.of(bytes(value))))),
    (OF_C, c_parts),
    (enum.Enum, member_parts),
    (torch.jit.ScriptModule, script_parts),
    (nn.Module, network_parts),
    (object, object_parts),
)
"""What the hash of a value is made of, by its type: the first that it is of."""
