"""Objects as bytes that another process of robench can read.

What a file of the user's defines travels as the name of that file, which the other process loads for itself, and a
member of a family of attacks by its own name; everything else as pickle has it.
"""

import io
import pickle
import sys
from functools import cache
from mmap import mmap
from operator import attrgetter
from pathlib import Path
from types import FunctionType
from typing import Any

from robench.utils import neighbours, registry
from robench.utils.errors import UserError


def pack(value: Any, what: str) -> bytes:
    """Raises UserError where `what`, as people call the value, cannot travel."""
    stream = io.BytesIO()
    try:
        _Pickler(stream, protocol=pickle.HIGHEST_PROTOCOL).dump(value)
    except Exception as error:  # whatever the user's objects do when they are pickled
        raise UserError(
            f"{what} cannot be sent to another process ({_first_line(error)}); give its class, or the function that it "
            "is, a name at the top of a file, or use one worker"
        ) from None
    return stream.getvalue()


def unpack(packed: bytes | mmap, what: str) -> Any:
    """What was packed."""
    try:
        return pickle.loads(packed)
    except UserError:
        raise
    except Exception as error:  # likewise
        raise UserError(
            f"{what} cannot be rebuilt in another process ({_first_line(error)}); import its class from a file, or use "
            "one worker"
        ) from None


class _Pickler(pickle.Pickler):
    def reducer_override(self, value: Any) -> Any:
        if not isinstance(value, FunctionType | type):
            return NotImplemented
        if isinstance(value, FunctionType) and (member := registry.member_of(value)):
            return registry.attack_function, (member,)
        if registry.is_of_user(value.__module__) and "<locals>" not in value.__qualname__:
            path = Path(sys.modules[value.__module__].__file__ or "").resolve()
            return _find, (str(path), str(neighbours.root_of_module(value.__module__)), value.__qualname__)
        return NotImplemented


@cache
def _module(path: str, root: str) -> Any:
    """Of a file of the user's, which this process may have imported as a neighbour of another."""
    loaded = sys.modules.get(neighbours.name_of(Path(path), Path(root)))
    return loaded or neighbours.load(Path(path), Path(root))


def _find(path: str, root: str, name: str) -> Any:
    return attrgetter(name)(_module(path, root))


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
