"""Networks of the user's own code: the function or class of a file, called with what it asks for by name."""

import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from robench.utils import registry
from robench.utils.containment import contained
from robench.utils.errors import UserError

Maker = Callable[..., Any]
"""A function or class that gives a network, or whatever the user's file has under that name."""

CHANNELS = ("channels", "in_channels", "in_chans", "input_channels", "num_channels", "n_channels")
CLASSES = ("classes", "num_classes", "n_classes", "nclasses", "nb_classes", "num_labels")


_named: set[tuple[Path, str]] = set()


def was_named(written: str) -> bool:
    """Whether the user of this process has named that file and what is taken of it, so that its code may be run."""
    return _key(written) in _named


def _key(written: str) -> tuple[Path, str]:
    file = registry.users_file(written)
    assert file is not None
    return file[0].resolve(), file[1]


def maker(written: str) -> Maker:
    """What "FILE.py:NAME" names, a function, a class or an entry of the table NETWORKS; of "FILE.py" the one entry.

    Runs that file. Raises UserError where there is no such thing."""
    file = registry.users_file(written)
    assert file is not None
    path, name = file
    _named.add(_key(written))
    module = registry.load_file(path)
    networks: dict[str, Maker] = getattr(module, "NETWORKS", {})
    if not name:
        if len(networks) != 1:
            raise UserError(
                f"expected a table NETWORKS of one network by its name in {path}, found {len(networks)}; or name a "
                f"function or class of it, {path}:NAME"
            )
        return next(iter(networks.values()))
    found = getattr(module, name, networks.get(name))
    if not callable(found):
        raise UserError(f"expected a function {name} in {path}, found none")
    return found


def called(make: Maker, written: str, shape: Sequence[int] | None, classes: int | None) -> Any:
    """What a function or class gives for images [C, H, W] of so many classes: it is handed what it has parameters for.

    These are `shape`, and one of `CHANNELS` and of `CLASSES`. Raises UserError where it asks for more, or fails.
    """
    asked = _asked(make, written, shape, classes)
    try:
        with contained(written):
            return make(**asked)
    except UserError:
        raise
    except Exception as error:
        hint = ""
        if isinstance(error, FileNotFoundError):
            hint = "; a relative path is taken from where robench runs, so write Path(__file__).parent / ..."
        raise UserError(f"{written} failed: {type(error).__name__}: {error}{hint}") from error


def called_network(make: Maker, written: str, shape: Sequence[int], classes: int) -> nn.Module:
    """As `called`, of what must be a network."""
    network = called(make, written, shape, classes)
    if not isinstance(network, nn.Module):
        raise UserError(f"expected {written} to return an nn.Module, got {type(network).__name__}")
    return network


def _asked(make: Maker, written: str, shape: Sequence[int] | None, classes: int | None) -> dict[str, Any]:
    try:
        parameters = inspect.signature(make).parameters.values()
    except (TypeError, ValueError):  # of C
        return {}
    known = {"shape": tuple(shape) if shape else None, **dict.fromkeys(CLASSES, classes)}
    known |= dict.fromkeys(CHANNELS, shape[0] if shape else None)
    asked = {each.name: known[each.name] for each in parameters if known.get(each.name) is not None}
    lacking = [
        each.name
        for each in parameters
        if each.name not in asked
        and each.default is each.empty
        and each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)
    ]
    if lacking:
        raise UserError(
            f"{written} asks for {', '.join(lacking)}, which robench does not know: it hands on shape, "
            f"{CHANNELS[1]} and {CLASSES[1]}; write a function of no arguments that calls it"
        )
    return asked
