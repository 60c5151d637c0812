"""What the functions of the Python interface are called with, checked before anything is done."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import cache, wraps
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, ParamSpec, TypeVar, Union, get_args, get_origin, get_type_hints

from robench.utils.errors import UserError
from robench.utils.text import described

Arguments = ParamSpec("Arguments")
Returned = TypeVar("Returned")

WORDS: dict[Any, str] = {
    bool: "True or False",
    int: "a whole number",
    float: "a number",
    str: "text",
    Path: "a path",
    NoneType: "None",
    Sequence[str]: "a list of text",
    Sequence[float]: "a list of numbers",
}
"""The types that are checked, for people."""

LISTS: dict[Any, str] = {Sequence: "a list", Mapping: "names with their values"}
"""Those whose members have a door of their own."""


def checked(function: Callable[Arguments, Returned]) -> Callable[Arguments, Returned]:
    """The function, which raises UserError in place of what Python would say where an argument is unknown, missing, or
    not of its type, or a file cannot be read or written. Arrays, tensors and their scalars count as lists and numbers
    of Python's."""

    @wraps(function)
    def call(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Returned:
        try:
            bound = inspect.signature(function).bind(*args, **kwargs)
        except TypeError as error:
            raise UserError(f"{function.__name__.strip('_')}: {error}") from None
        for name, value in bound.arguments.items():
            bound.arguments[name] = _checked(value, _hints(function).get(name, Any), function.__name__.strip("_"), name)
        try:
            return function(*bound.args, **bound.kwargs)
        except OSError as error:
            if error.filename is None:
                raise
            raise UserError(f"{described(error.filename)} cannot be used: {error.strerror}") from error

    return call


def _checked(value: Any, hint: Any, where: str, name: str) -> Any:
    kinds = _kinds(hint)
    words = [_words(kind) for kind in kinds]
    if None in words:
        return value
    plain = value.tolist() if hasattr(value, "tolist") and any(kind in WORDS for kind in kinds) else value
    if not any(_is(plain, kind) for kind in kinds):
        raise UserError(f"{where}: expected {name} as {' or '.join(map(str, words))}, got {described(value)}")
    if isinstance(plain, str | Path) and "\0" in str(plain):
        raise UserError(f"{where}: expected {name} without a null character, got {described(value)}")
    return plain


@cache
def _hints(function: Callable[..., Any]) -> Mapping[str, Any]:
    return get_type_hints(function)


def _kinds(hint: Any) -> list[Any]:
    """What a hint may be, in its order, a choice of words being text."""
    if get_origin(hint) in (Union, UnionType):
        return list(dict.fromkeys(kind for member in get_args(hint) for kind in _kinds(member)))
    return [str] if get_origin(hint) is Literal else [hint]


def _words(kind: Any) -> str | None:
    """What a kind is called; None for one that has a door of its own, which says what it takes."""
    if get_origin(kind) in LISTS and kind not in WORDS:
        return LISTS[get_origin(kind)]
    return WORDS.get(kind)


def _is(value: Any, kind: Any) -> bool:
    if kind in (int, float):
        return isinstance(value, int if kind is int else (int, float)) and not isinstance(value, bool)
    if get_origin(kind) is Mapping:
        return isinstance(value, Mapping)
    if get_origin(kind) is Sequence:
        listed = isinstance(value, Sequence) and not isinstance(value, str | bytes)
        return listed and (kind not in WORDS or all(_is(each, get_args(kind)[0]) for each in value))
    return isinstance(value, kind)
