"""Reads files of weights without running any code in them."""

import argparse
import datetime
import decimal
import fractions
import pathlib
import pickle
import re
import types
import uuid
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from robench.models.files.formats import kind_of
from robench.utils.errors import UserError

_PURE: dict[str, type[pathlib.PurePath]] = {
    "PosixPath": pathlib.PurePosixPath,
    "PurePosixPath": pathlib.PurePosixPath,
    "WindowsPath": pathlib.PureWindowsPath,
    "PureWindowsPath": pathlib.PureWindowsPath,
}


_NUMPY: dict[Any, str] = {
    np.zeros(1).__reduce__()[0]: "multiarray._reconstruct",
    np.float64(0).__reduce__()[0]: "multiarray.scalar",
    np.zeros(1).__reduce_ex__(5)[0]: "numeric._frombuffer",
}
"""By what NumPy makes an array or a number of a pickle, under the names that both of its versions write."""


def _plain_dict(default: Any = None) -> dict[Any, Any]:
    """In place of a defaultdict, which torch does not fill."""
    return {}


def _plain_list(items: Iterable[Any] = (), longest: int | None = None) -> list[Any]:
    """In place of a deque, likewise."""
    return list(items)


PLAIN: list[Any] = [
    *(argparse.Namespace, types.SimpleNamespace, uuid.UUID),
    (_plain_dict, "collections.defaultdict"),
    (_plain_list, "collections.deque"),
    *(list, dict, tuple, int, float, str, bool),  # as what a defaultdict starts from
    *(datetime.datetime, datetime.date, datetime.time, datetime.timedelta, datetime.timezone),
    *(decimal.Decimal, fractions.Fraction, set, frozenset, slice, range, complex, bytearray),
    *((kind, f"{module}.{name}") for module in ("pathlib", "pathlib._local") for name, kind in _PURE.items()),
    *(np.ndarray, np.dtype, *(type(np.dtype(kind)) for kind in "?bBhHiIlLqQefdgFDSUV")),
    *((make, f"numpy.{core}.{name}") for make, name in _NUMPY.items() for core in ("core", "_core")),
]
"""What people keep beside weights, which holds values and does nothing as it is made: each as torch's reader takes it,
a class or function, or one with the name of what it stands for."""


def read(path: Path) -> Any:
    """What a file holds, on the CPU; of arrays in an .npz file, tensors by their names.

    Raises UserError, one sentence, for any other file, a damaged one, or one with objects whose loading would run code.
    """
    kind = kind_of(path)
    if kind == "torchscript":
        raise UserError(
            f"{path} is a TorchScript archive, a program that brings its own code; name it with --arch torchscript to "
            "have that run, or save the state_dict() of its network"
        )
    try:
        return {"torch": _of_torch, "safetensors": _of_safetensors, "npz": _of_numpy}[kind](path)
    except UserError:
        raise
    except Exception as error:  # torch, safetensors and NumPy raise many kinds for a damaged file
        raise UserError(f"{path} is not a whole checkpoint ({_first_line(error)}); was its download cut?") from None


def _of_torch(path: Path) -> Any:
    try:
        with torch.serialization.safe_globals(PLAIN), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of storages of old files, which the reader cannot help
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        named = _strange_things(path) or re.findall(r"(?:GLOBAL |<class '|<function )([\w.]+)", str(error))[:1]
        if not named and "weights_only" not in str(error).lower():
            raise UserError(f"{path} is not a whole checkpoint: {_first_line(error)}") from None
        raise UserError(_refusal(path, named)) from None


def _of_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    return load_file(path)


def _of_numpy(path: Path) -> dict[str, Tensor]:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            named = {name: arrays[name] for name in arrays.files}
    except ValueError as error:
        if "allow_pickle" not in str(error):
            raise
        raise UserError(_refusal(path, ["an array of objects"])) from None
    return {name: torch.from_numpy(array) for name, array in named.items() if array.dtype.kind in "biufc"}


def _strange_things(path: Path) -> list[str]:
    """The classes and functions in a file that are not let in, by their names."""
    try:
        with torch.serialization.safe_globals(PLAIN):
            return sorted(torch.serialization.get_unsafe_globals_in_checkpoint(path))
    except Exception:  # it is of another form than that of today
        return []


def _refusal(path: Path, named: list[str]) -> str:
    """One sentence on what a file holds whose loading would run code."""
    shown = ", ".join([name for name in named if not name.startswith("torch.nn.modules.")][:3] or named[:3])
    remedy = "save its state_dict() alone, or give a factory PATH.py:FUNCTION that you trust"
    if any(name.startswith("torch.nn.modules.") for name in named):
        return f"{path} holds a whole model ({shown}), whose loading would run code; {remedy}"
    return f"{path} holds Python objects ({shown or 'of another kind'}) whose loading would run code; {remedy}"


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
