"""Classes and modules of Python, as the parts of a hash."""

import enum
import types
from collections.abc import Iterator

from robench.models.description.attributes import UNSEEN
from robench.models.description.origin import origin_of
from robench.models.description.walk import Walk


def class_parts(kind: type, walk: Walk) -> Iterator[str]:
    """The bases, the members of an enum and the attributes; of a library's class its name and origin."""
    origin = origin_of(str(kind.__module__))
    if origin and origin.has(kind):
        yield from origin.parts(kind)
        return
    yield from ("class", kind.__name__, *map(walk.of, kind.__bases__))
    if type(kind) is not type:
        yield walk.of(type(kind))
    if issubclass(kind, enum.Enum):
        yield from (each for member in kind.__members__.values() for each in (member.name, walk.of(member.value)))
    for name, attribute in sorted(vars(kind).items()):
        is_slot = isinstance(attribute, types.MemberDescriptorType | types.GetSetDescriptorType)
        of_enum = issubclass(kind, enum.Enum) and (name.startswith("_") or name in kind.__members__)
        if name not in UNSEEN and not is_slot and not (of_enum and not callable(attribute)):
            yield from (name, walk.of(attribute))


def module_parts(module: types.ModuleType, walk: Walk) -> Iterator[str]:
    """All that a module of the user's holds; of a library's its name."""
    origin = origin_of(module.__name__)
    if origin:
        yield from ("library", origin.word, module.__name__)
        return
    yield "module"
    for name, value in sorted(vars(module).items()):
        if name not in UNSEEN:
            yield from (name, walk.of(value))
