"""CIFAR-10-C and CIFAR-100-C (Hendrycks & Dietterich 2019) as they are published: an array for each corruption."""

from pathlib import Path

import numpy as np

from robench.data import arrays
from robench.data.arrays import Arrays
from robench.data.parts import Part
from robench.utils.errors import UserError, first_line, unknown

KINDS = ("cifar10c", "cifar100c")
SEVERITIES = 5


def split(where: str) -> tuple[str, str, str]:
    """The folder, the corruption and the severity of DIR:fog:3."""
    folder, _, rest = where.partition(":")
    corruption, _, severity = rest.partition(":")
    return folder, corruption, severity


def read(folder: Path, corruption: str, severity: str, part: Part, where: str) -> Arrays:
    """The images of CORRUPTION.npy in a severity, a fifth of them, with their labels of labels.npy."""
    if part == "train":
        raise UserError(f"{where}: it has test images alone")
    labels = _array(folder / "labels.npy", where)
    known = sorted(file.stem for file in folder.glob("*.npy") if file.stem != "labels")
    if corruption not in known:
        raise unknown(f"corruption in {where.removeprefix('dataset ')}:", corruption, known)
    if severity not in map(str, range(1, SEVERITIES + 1)):
        raise UserError(f"{where}: expected a severity from 1 to {SEVERITIES}, DIR:{corruption}:3, got {severity!r}")
    images = _array(folder / f"{corruption}.npy", where)
    if len(images) != len(labels) or len(images) % SEVERITIES:
        raise UserError(
            f"{where}: expected as many images as labels, {SEVERITIES} severities one after the other, got "
            f"{len(images)} and {len(labels)}"
        )
    size = len(images) // SEVERITIES
    rows = slice((int(severity) - 1) * size, int(severity) * size)
    return arrays.images(images[rows], where), arrays.labels(labels[rows], where)


def _array(file: Path, where: str) -> np.ndarray:
    try:
        found: np.ndarray = np.load(file, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise UserError(f"{where}: there is no {file.name} in that folder") from None
    except Exception as error:  # of a damaged file NumPy raises many kinds
        raise UserError(f"{where}: {file.name} is not a plain array ({first_line(error)})") from None
    return found
