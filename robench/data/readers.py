"""Images and labels as NumPy arrays, from the files in which data sets come; torch is not imported."""

import inspect
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from robench.data import archives
from robench.data.arrays import Arrays
from robench.data.parts import Part
from robench.utils.errors import UserError

Reader = Callable[[str, Part, Path, bool], Arrays]
"""Reads one part of a data set, which messages call by its name, from the folder of all data; the last argument allows
to download what is missing there."""

DIGITS_TRAIN = 1297
"""Of the 1,797 digits, in scikit-learn's order; the last 500 (other writers) are the test set."""


def digits(name: str, part: Part, root: Path, download: bool) -> Arrays:
    """scikit-learn's digits, from the file that comes with it: importing the library takes seconds."""
    file = _installed("sklearn") / "datasets" / "data" / "digits.csv.gz"
    try:
        table = np.loadtxt(file, delimiter=",")
    except OSError as error:
        raise UserError(f"dataset {name}: {file} of scikit-learn cannot be read ({error}); install it anew") from None
    rows = slice(None, DIGITS_TRAIN) if part == "train" else slice(DIGITS_TRAIN, None)
    pixels, labels = table[rows, :-1].reshape(-1, 1, 8, 8), table[rows, -1]
    return (pixels / 16).astype(np.float32), labels.astype(np.int64)


def _installed(package: str) -> Path:
    """The folder of a package, which is not imported."""
    spec = find_spec(package)
    return Path(spec.origin or "").parent if spec else Path(package)


def torchvision(kind: str, folder: str = "", **fixed: Any) -> Reader:
    """Reads the set of torchvision's class `kind`; `folder` is where in the folder of all data its files lie, where
    the class makes no folder of its own, and `fixed` what else the class is given."""

    def read(name: str, part: Part, root: Path, download: bool) -> Arrays:
        import torchvision.datasets

        torchvisions, place = getattr(torchvision.datasets, kind), root / folder
        by_name = "split" in {*inspect.signature(torchvisions).parameters} - {*fixed}
        which = {"split": part} if by_name else {"train": part == "train"}
        try:
            found = torchvisions(place, **which, **fixed, download=download)
        except (RuntimeError, OSError) as error:
            if download:
                raise UserError(f"dataset {name} could not be fetched into {place}: {error}") from None
            raise UserError(
                f"dataset {name} is not complete under {place}; put torchvision's files there, point --data-root at "
                "the folder that has them, or let --download fetch it"
            ) from None
        return _channels_first(np.asarray(found.data)), np.asarray(found.labels if by_name else found.targets)

    return read


def _channels_first(images: np.ndarray) -> np.ndarray:
    """images [N, H, W], [N, H, W, C] or [N, C, H, W] as [N, C, H, W]."""
    if images.ndim == 3:
        return images[:, None]
    return images.transpose(0, 3, 1, 2) if images.shape[3] < images.shape[1] else images


def npz_under(file: str) -> Reader:
    """Reads a set from an archive in the folder of all data, see `robench/data/archives.py`."""
    return lambda name, part, root, download: archives.read(root / file, part, f"dataset npz:{root / file}", {})
