"""What objects and containers hold, as the parts of a hash."""

import enum
from collections import defaultdict
from collections.abc import Iterator
from copyreg import dispatch_table
from typing import Any, cast

from robench.models.description.attributes import UNSEEN, attributes, keeps_more
from robench.models.description.walk import ATOMS, Walk


def object_parts(value: Any, walk: Walk) -> Iterator[str]:
    """Its class, what it contains, its attributes; of one that C keeps, what it gives to be pickled."""
    kind = type(value)
    if str(kind.__module__).startswith("torch._ops"):
        yield from ("operator", str(value))
        return
    if (original := _original(value)) is not None:  # compiled by torch, numba or functools.lru_cache
        yield from ("compiled", walk.of(original))
        return
    yield from ("object", walk.of(kind))
    contained = _content(value, walk)
    yield from contained
    if not contained and keeps_more(kind):
        yield from _pickled(value, walk)
        return
    for name, attribute in attributes(value):
        if name not in UNSEEN:
            yield from (name, walk.of(attribute))


def member_parts(member: enum.Enum, walk: Walk) -> Iterator[str]:
    yield from ("member", walk.of(type(member)), str(member.name), walk.of(member.value))


def _content(value: Any, walk: Walk) -> list[str]:
    """What a container holds; a set in no order, each of its members seen as if it were the first."""
    if isinstance(value, dict):
        default = value.default_factory if isinstance(value, defaultdict) else None
        return ["items", walk.of(default), *(walk.of(each) for item in dict.items(value) for each in item)]
    if isinstance(value, list):
        return ["sequence", *map(walk.of, list.__iter__(value))]
    if isinstance(value, tuple):
        return ["sequence", *map(walk.of, tuple.__iter__(value))]
    if isinstance(value, set | frozenset):
        return ["set", *sorted(walk.afresh(member) for member in value)]
    if isinstance(value, ATOMS):  # of a class of their own
        base = next(base for base in type(value).__mro__ if base in ATOMS)
        return [base.__name__, str(cast(Any, base).__repr__(value))]
    return []


def _pickled(value: Any, walk: Walk) -> Iterator[str]:
    try:
        reduce = dispatch_table.get(type(value))
        reduced = reduce(value) if reduce else value.__reduce_ex__(4)
    except Exception:  # of any kind, from code of any library
        yield walk.hide(value, "keeps a state that cannot be read")
        return
    if isinstance(reduced, str):
        yield reduced
        return
    rebuild, arguments, *rest = reduced
    state, *more = [*rest, None, None, None][:3]
    yield from (walk.of(rebuild), walk.of(arguments), walk.of(state))
    yield from (walk.of(list(items)) for items in more if items is not None)


def _original(value: Any) -> Any:
    """The function that was compiled or is cached, of what takes its place."""
    names = {"functools": "__wrapped__", "numba": "py_func", "torch": "_torchdynamo_orig_callable"}
    name = names.get(type(value).__module__.partition(".")[0])
    return getattr(value, name, None) if name else None
