"""What a code object does, and the names and modules that it mentions."""

import dis
import types
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

FLAGS = 0x04 | 0x08 | 0x20 | 0x80 | 0x200
"""Of code: *args, **kwargs, a generator, a coroutine, both."""

MOOT = ("CACHE", "EXTENDED_ARG", "NOP", "RESUME", "PRECALL")
"""Instructions that mean nothing, or follow from others."""


def instructions(code: types.CodeType) -> list[Any]:
    """The arguments of a code object and its instructions with what each takes, jumps as the distance in
    instructions."""
    given: list[dis.Instruction] = []
    place: dict[int, int] = {}
    for each in dis.get_instructions(code):
        place[each.offset] = len(given)  # of what is left out, the next one's
        if each.opname == "STORE_NAME" and each.argval == "__doc__":
            given.pop()
        elif each.opname not in MOOT:
            given.append(each)
    found: list[Any] = [code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags & FLAGS]
    found += code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    jumps = {*dis.hasjrel, *dis.hasjabs}
    for each in given:
        is_jump = each.opcode in jumps and each.argval in place
        found += [each.opname, place[each.argval] - place[each.offset] if is_jump else each.argval]
    end = len(given)
    for entry in dis.Bytecode(code).exception_entries:  # type: ignore[attr-defined]
        found += [place.get(offset, end) for offset in (entry.start, entry.end, entry.target)]
    return found


def chains(code: types.CodeType) -> set[tuple[str, ...]]:
    """The global names that it loads, each with the attributes taken of it at once."""
    found = set()
    for part in _nested(code):
        chain: tuple[str, ...] = ()
        for each in [*dis.get_instructions(part), None]:
            if each and each.opname in MOOT:
                continue
            if each and chain and each.opname in ("LOAD_ATTR", "LOAD_METHOD"):
                chain = (*chain, str(each.argval))
                continue
            if chain:
                found.add(chain)
            chain = (str(each.argval),) if each and each.opname in ("LOAD_GLOBAL", "LOAD_NAME") else ()
    return found


def imports(code: types.CodeType) -> set[tuple[str, int, tuple[str, ...]]]:
    """What it imports when it is run: the module, the level, and the names that it takes of it; none where it takes
    the module as a whole."""
    found = set()
    for part in _nested(code):
        given = [each for each in dis.get_instructions(part) if each.opname not in MOOT]
        for place, each in enumerate(given):
            if each.opname == "IMPORT_NAME":
                level, names = given[place - 2].argval, given[place - 1].argval
                stored = given[place + 1]
                if not names and stored.opname == "STORE_FAST":
                    names = _taken(given, stored.argval)
                found.add((str(each.argval), int(level or 0), tuple(names or ())))
    return found


def _nested(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _nested(constant)


def _taken(given: list[dis.Instruction], name: str) -> list[str]:
    """The attributes that are taken of a local name; none where it is used in another way."""
    uses = [after for each, after in pairwise(given) if each.opname.startswith("LOAD_FAST") and each.argval == name]
    attributes = [str(use.argval) for use in uses if use.opname in ("LOAD_ATTR", "LOAD_METHOD")]
    return sorted(set(attributes)) if len(attributes) == len(uses) else []
