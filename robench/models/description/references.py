"""What a code object refers to by a global name or an import, as the parts of a hash."""

import builtins
import types
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from importlib import import_module
from typing import Any

from robench.models.description.attributes import UNSEEN
from robench.models.description.bytecode import chains, imports
from robench.models.description.origin import origin_of
from robench.models.description.walk import Walk
from robench.utils.neighbours import meant


def reference_parts(code: types.CodeType, namespace: Mapping[str, Any], walk: Walk) -> Iterator[str]:
    """The things that a code object finds by a global name, or as an attribute of a module that it names."""
    for names in sorted(chains(code)):
        first, *more = names
        if first in UNSEEN:
            continue
        if first not in namespace:
            yield from (first, "builtin" if hasattr(builtins, first) else "absent")
            continue
        thing = namespace[first]
        while more and type(thing) is types.ModuleType:
            thing = _attribute(thing, more.pop(0))
        yield from (".".join(names), walk.of(thing))
    for name, level, wanted in sorted(imports(code)):
        for thing in _imported(name, level, wanted, namespace):
            yield from (name, walk.of(thing))


def _imported(name: str, level: int, wanted: Iterable[str], namespace: Mapping[str, Any]) -> Iterator[Any]:
    whole = meant(name, str(namespace.get("__name__"))) if level == 0 else name
    if level == 0 and whole == name and origin_of(name.partition(".")[0]):
        yield name
        return
    try:
        module = import_module("." * level + whole, str(namespace.get("__package__") or ""))
    except Exception:  # it would fail where it is run, too
        yield "absent"
        return
    taken = [_attribute(module, each) for each in wanted]
    yield from taken
    if not taken or "absent" in taken:
        yield module


def _attribute(module: types.ModuleType, name: str) -> Any:
    """Of a module, without running what it may have to make attributes."""
    if name in vars(module):
        return vars(module)[name]
    with suppress(Exception):  # it would fail where it is run, too
        return import_module(f"{module.__name__}.{name}")
    return "absent"
