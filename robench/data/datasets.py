"""The data sets: images and labels in the set's own order, by a name such as `mnist` or `parquet:DIR`."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from robench.data import resize
from robench.data.catalog import DATASETS, FORMS
from robench.data.parquet import StoredImages, decode, stored
from robench.data.readers import Arrays, Part, npz
from robench.utils.errors import UserError, unknown


@dataclass(frozen=True)
class Split:
    """images [N, C, H, W]: uint8, or float32 in [0, 1], in memory or on disk; labels [N] int64."""

    name: str
    images: Tensor | StoredImages
    labels: Tensor

    def __post_init__(self) -> None:
        where = f"dataset {self.name}"
        if self.images.dim() != 4 or self.labels.shape != self.images.shape[:1]:
            raise UserError(
                f"{where}: expected images (N, channels, height, width) and one label each, "
                f"got {tuple(self.images.shape)} and {tuple(self.labels.shape)}"
            )
        if self.images.numel() == 0:
            raise UserError(f"{where} is empty")
        if isinstance(self.images, Tensor) and self.images.dtype != torch.uint8:
            low, high = float(self.images.min()), float(self.images.max())
            if not (low >= 0 and high <= 1):  # NaN fails too
                raise UserError(f"{where}: expected images in [0, 1], got values from {low:g} to {high:g}")
        if int(self.labels.min()) < 0:
            raise UserError(f"{where}: expected labels of at least 0, got {int(self.labels.min())}")

    def __len__(self) -> int:
        return len(self.images)

    @property
    def shape(self) -> Sequence[int]:
        """The shape of one image."""
        return self.images.shape[1:]

    @property
    def classes(self) -> int:
        return int(self.labels.max()) + 1

    @cached_property
    def fingerprint(self) -> str:
        digest = hashlib.sha256(f"{self.images.dtype} {tuple(self.images.shape)}".encode())
        if isinstance(self.images, Tensor):
            digest.update(np.ascontiguousarray(self.images.numpy()).data)
        else:
            digest.update(self.images.digest())
        digest.update(np.ascontiguousarray(self.labels.numpy()).data)
        return digest.hexdigest()[:16]

    def check_labels(self, classes: int) -> None:
        if self.classes > classes:
            raise UserError(
                f"dataset {self.name}: expected labels below {classes}, the number of classes of the model, "
                f"got {self.classes - 1}"
            )

    def to(self, device: torch.device) -> "Split":
        return Split(self.name, self.images.to(device), self.labels.to(device))

    def take(self, rows: Any) -> "Split":
        return Split(self.name, self.images[rows], self.labels[rows])

    def shaped(self, shape: Sequence[int]) -> "Split":
        """The images in another shape [C, H, W], as uint8."""
        if tuple(self.shape) == tuple(shape):
            return self
        name, _, part = self.name.rpartition(" (")
        images = resize.resized(self.images[:], shape, f"dataset {name}")
        return Split(f"{resize.name_of(name, shape)} ({part}", images, self.labels)

    def floats(self, rows: Any) -> Tensor:
        """The images of these rows as float32 in [0, 1]."""
        images = self.images[rows]
        return images.float() / 255 if images.dtype == torch.uint8 else images


def joined(first: Split, second: Split | None) -> Split:
    """The images of both, in one set of the first's name. Raises UserError where their shapes or classes differ."""
    if second is None:
        return first
    if tuple(first.shape) != tuple(second.shape):
        raise UserError(
            f"expected images of shape {tuple(first.shape)} to add to {first.name}, got {tuple(second.shape)} in "
            f"{second.name}; another shape is asked for as SET@CxHxW"
        )
    second.check_labels(first.classes)
    images = [split.images[:] for split in (first, second)]
    if images[0].dtype != images[1].dtype:
        images = [split.floats(slice(None)) for split in (first, second)]
    return Split(first.name, torch.cat(images), torch.cat([first.labels, second.labels]))


def load(name: str, part: Part, *, root: Path | str = "data", download: bool = False, stream: bool = False) -> Split:
    """One part of a data set. `root` is where torchvision's sets lie, and relative paths that lead nowhere from the
    working directory; `download` fetches one of torchvision's that is missing; `stream` leaves the images of `parquet:`
    on disk."""
    name, shape = resize.named(name)
    kind, _, where = name.partition(":")
    place = _found(where, Path(root))
    if kind == "parquet" and where:
        on_disk, labels = stored(place, part)
        whole = Split(called(name, part), on_disk if stream and shape is None else on_disk[:], torch.from_numpy(labels))
        return whole if shape is None else whole.shaped(shape)
    if kind in _FROM_PATH and where:
        images, labels = _FROM_PATH[kind](place, part)
    elif name in DATASETS:
        images, labels = DATASETS[name].read(part, Path(root), download)
    else:
        raise unknown("dataset", name, [*DATASETS, *FORMS])
    images = np.ascontiguousarray(images)  # libraries take views of theirs, which other strides forbid
    split = Split(called(name, part), torch.from_numpy(images), torch.from_numpy(labels.astype(np.int64)))
    return split if shape is None else split.shaped(shape)


def _found(where: str, root: Path) -> Path:
    here, under = Path(where), root / where
    return under if under.exists() and not here.exists() else here


def called(name: str, part: Part) -> str:
    """What the part of a data set is called in results: of a path the last name."""
    kind, _, where = name.partition(":")
    return f"{kind}:{Path(where).name} ({part})" if where else f"{name} ({part})"


def _imagefolder(folder: Path, part: Part) -> Arrays:
    """torchvision's layout, PART/CLASS/FILE with `val` for a missing `test`; the labels count the sorted classes, which
    the parts must share."""
    from torchvision.datasets import ImageFolder

    where = f"dataset imagefolder:{folder}"
    parts = ("train",) if part == "train" else ("test", "val")
    place = next((folder / name for name in parts if (folder / name).is_dir()), None)
    if place is None:
        raise UserError(f"{where}: expected a folder {' or '.join(parts)} in it, found none")
    try:
        found = ImageFolder(str(place))
    except (FileNotFoundError, OSError) as error:  # no class, or a class without images
        raise UserError(f"{where}: {str(error).splitlines()[0]}") from None
    trained = sorted(path.name for path in (folder / "train").glob("*") if path.is_dir())
    if trained and trained != found.classes:
        raise UserError(f"{where}: expected the classes of train in {place.name}, got {found.classes[:5]}")
    files = [Path(file) for file, _ in found.samples]
    images = [decode(file.read_bytes(), f"{where}, {file.relative_to(folder)}") for file in files]
    for file, image in zip(files, images, strict=True):
        if image.shape != images[0].shape:
            raise UserError(
                f"{where}: expected images of one size, got {images[0].shape} in {files[0].name} and {image.shape} in "
                f"{file.name}"
            )
    return np.stack(images), np.array(found.targets)


_FROM_PATH: dict[str, Callable[[Path, Part], Arrays]] = {
    "imagefolder": _imagefolder,
    "npz": npz,
}
