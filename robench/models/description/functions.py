"""Functions, methods and what wraps them, as the parts of a hash."""

import hashlib
import sys
import types
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from robench.models.description.attributes import UNSEEN
from robench.models.description.bytecode import instructions
from robench.models.description.origin import origin_of
from robench.models.description.references import reference_parts
from robench.models.description.walk import Walk

OF_C = (
    types.BuiltinFunctionType,
    types.MethodWrapperType,
    types.WrapperDescriptorType,
    types.MethodDescriptorType,
    types.ClassMethodDescriptorType,
    types.GetSetDescriptorType,
    types.MemberDescriptorType,
)
"""The types of functions, methods and descriptors that C defines."""


def function_parts(function: types.FunctionType, walk: Walk) -> Iterator[str]:
    """The code, the defaults, the closure and what the code mentions; of a library's function its name and origin."""
    code = function.__code__
    origin = origin_of(str(function.__globals__.get("__name__", "")))  # `__module__` is what a decorator says
    if origin and origin.has(function):
        yield from origin.parts(function)
        return
    yield from ("function", walk.of(code), walk.of(function.__defaults__), walk.of(function.__kwdefaults__))
    for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
        yield from (name, walk.of(cell))
    if origin:  # made by a library: what it was made of is in its closure
        yield origin.code
    else:
        yield from reference_parts(code, function.__globals__, walk)
    for name, attribute in sorted(vars(function).items()):
        if name not in UNSEEN:
            yield from (name, walk.of(attribute))


def code_parts(code: types.CodeType, walk: Walk) -> Iterator[str]:
    yield from ("code", *(walk.of(part) for part in instructions(code)))


def method_parts(method: types.MethodType, walk: Walk) -> Iterator[str]:
    yield from ("method", walk.of(method.__func__), walk.of(method.__self__))


def partial_parts(value: "partial[Any]", walk: Walk) -> Iterator[str]:
    yield from ("partial", *map(walk.of, (value.func, value.args, dict(sorted(value.keywords.items())))))


def wrapped_parts(value: "staticmethod[..., Any] | classmethod[Any, ..., Any]", walk: Walk) -> Iterator[str]:
    yield from (type(value).__name__, walk.of(value.__func__))


def property_parts(value: property, walk: Walk) -> Iterator[str]:
    yield from ("property", *map(walk.of, (value.fget, value.fset, value.fdel)))


def closure_parts(cell: types.CellType, walk: Walk) -> Iterator[str]:
    """What a variable of a closure holds; it may hold nothing yet."""
    yield walk.of(cell.cell_contents) if _is_full(cell) else "empty"


def c_parts(value: Any, walk: Walk) -> Iterator[str]:
    """Of a function, a method or a descriptor that C defines."""
    bound = getattr(value, "__self__", None)
    module = str(getattr(value, "__module__", None) or "")
    yield from ("of C", module, str(getattr(value, "__qualname__", value.__name__)))
    if isinstance(bound, type) and origin_of(bound.__module__):
        yield bound.__qualname__
    elif bound is not None and not isinstance(bound, types.ModuleType):
        yield walk.of(bound)
    owner = getattr(value, "__objclass__", None)
    if owner is not None:
        yield walk.of(owner)
    origin = origin_of(module)
    if origin:
        yield origin.word
    elif module and (file := getattr(sys.modules.get(module), "__file__", None)):
        yield hashlib.sha256(Path(file).read_bytes()).hexdigest()


def _is_full(cell: types.CellType) -> bool:
    try:
        cell.cell_contents  # noqa: B018
    except ValueError:
        return False
    return True
