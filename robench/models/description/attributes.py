"""The attributes of objects, read without running any code of their classes."""

import types
from contextlib import suppress
from typing import Any

UNSEEN = {
    *("__name__", "__file__", "__builtins__", "__spec__", "__loader__", "__package__", "__cached__", "__doc__"),
    *("__module__", "__qualname__", "__annotations__", "__annotate__", "__annotate_func__", "__dict__", "__weakref__"),
    *("__slots__", "__firstlineno__", "__static_attributes__", "__annotations_cache__", "__wrapped__"),
    *("__abstractmethods__", "_abc_impl", "__dataclass_fields__", "__dataclass_params__", "__type_params__"),
    *("_autograd_function_id", "_backward_cls", "_compiled_autograd_backward_state"),
}
"""Names of what says where something is from, or repeats what is seen elsewhere."""


def attributes(value: Any) -> list[tuple[str, Any]]:
    """Of an object, those in its slots too, in the order of their names."""
    found: dict[str, Any] = {}
    for kind in type(value).__mro__:
        for name, slot in vars(kind).items():
            if isinstance(slot, types.MemberDescriptorType) and name in _slots(kind):
                with suppress(AttributeError):  # it is empty
                    found.setdefault(name, slot.__get__(value, kind))
    with suppress(AttributeError):
        found |= object.__getattribute__(value, "__dict__")
    return sorted((str(name), attribute) for name, attribute in found.items()) if found else []


def keeps_more(kind: type) -> bool:
    """Whether the objects of a class are larger than their attributes and slots: then C keeps something in them."""
    slots = sum(len(_slots(base)) for base in kind.__mro__)
    pointers = slots + sum(getattr(kind, name) > 0 for name in ("__dictoffset__", "__weakrefoffset__"))
    return kind.__basicsize__ > object.__basicsize__ + pointers * tuple.__itemsize__ or kind.__itemsize__ > 0


def _slots(kind: type) -> set[str]:
    written = vars(kind).get("__slots__", ())
    names = (written,) if isinstance(written, str) else written
    return {name if not name.startswith("__") else f"_{kind.__name__.lstrip('_')}{name}" for name in names} - UNSEEN
