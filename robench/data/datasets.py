"""The data sets: images and labels in the set's own order, by a name such as `mnist` or `parquet:DIR`."""

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from robench.data import forms, objects
from robench.data import resize as shapes
from robench.data.parts import Part
from robench.data.preparation import Preparation, Side, prepared
from robench.data.stored import StoredImages
from robench.data.word import Word
from robench.utils.errors import UserError


@dataclass(frozen=True)
class Split:
    """images [N, C, H, W]: uint8, or float32 in [0, 1], in memory or on disk; labels [N] int64."""

    name: str
    images: Tensor | StoredImages
    labels: Tensor
    word: str = ""
    """what asks for it; of data given in Python it only names them"""
    names: Sequence[str] = ()
    """of the classes, where they have some"""

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
            digest.update(np.ascontiguousarray(self.images.cpu().numpy()).data)
        else:
            for piece in self.images.contents():
                digest.update(piece)
        digest.update(np.ascontiguousarray(self.labels.cpu().numpy()).data)
        return digest.hexdigest()[:16]

    def check_labels(self, classes: int) -> None:
        if self.classes > classes:
            raise UserError(
                f"dataset {self.name}: expected labels below {classes}, the number of classes of the model, "
                f"got {self.classes - 1}"
            )

    def to(self, device: torch.device) -> "Split":
        return replace(self, images=self.images.to(device), labels=self.labels.to(device))

    def take(self, rows: Any) -> "Split":
        return replace(self, images=self.images[rows], labels=self.labels[rows])

    def shaped(self, shape: Sequence[int]) -> "Split":
        """The images in another shape [C, H, W], as uint8."""
        if tuple(self.shape) == tuple(shape):
            return self
        name, _, part = self.name.rpartition(" (")
        images = shapes.resized(self.images[:], shape, f"dataset {name}")
        return replace(self, name=f"{shapes.name_of(name, shape)} ({part}", images=images)

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
    return replace(first, images=torch.cat(images), labels=torch.cat([first.labels, second.labels]))


DataSource = str | os.PathLike[str] | Split | Sequence[Any] | Mapping[str, Any] | Dataset[Any] | DataLoader[Any]
"""What asks for a data set: its name or word, a path, or the data themselves: images and labels (x, y), a dictionary of
parts, a Dataset or DataLoader of torch, a Split."""


def load(
    source: DataSource,
    part: Part,
    *,
    root: Path | str = "data",
    download: bool = False,
    stream: bool = False,
    resize: Side | None = None,
    crop: Side | None = None,
) -> Split:
    """One part of a data set, by its word or path, or from an object of Python.

    root: where torchvision's sets lie, and relative paths that lead nowhere from the working directory.
    download: fetches one of torchvision's that is missing.
    stream: leaves encoded images on disk.
    resize, crop: of torchvision's Resize and CenterCrop, beside what the word says.
    """
    if not isinstance(root, str | os.PathLike):
        raise UserError(f"expected the folder of all data as a path, got {root!r}")
    preparation = Preparation.of({"resize": resize, "crop": crop})
    if not isinstance(source, str | os.PathLike):
        return _from_python(objects.part_of(source, part), part, preparation)
    word = forms.word_of(source).with_options(preparation.options)
    stored = forms.stored_as(word)
    images, labels, names = forms.read(stored, part, Path(root), download)
    images = _prepared(images, Preparation.of(stored.options), f"dataset {word.name}")
    split = Split(called(str(replace(word, shape=None)), part), images, labels, str(word), names)
    if word.shape is not None:
        return split.shaped(word.shape)
    return split if stream else replace(split, images=split.images[:])


def _from_python(source: Any, part: Part, preparation: Preparation) -> Split:
    if isinstance(source, str | os.PathLike):
        raise UserError(f"expected data in a dictionary of parts, got {source!r}; give a name or a path by itself")
    if isinstance(source, Split):
        if source.word and not preparation:
            return source
        title, images, labels = source.name.partition(" (")[0], source.images, source.labels
    else:
        x, y = objects.read(source, part)
        title, images, labels = objects.called(source), torch.from_numpy(x), torch.from_numpy(y)
    split = Split(title, _prepared(images, preparation, f"dataset {title}"), labels)
    word = f"{forms.PYTHON}:{title}-{split.fingerprint[:6]}"
    return replace(split, name=called(word, part), word=word)


def _prepared(images: Tensor | StoredImages, preparation: Preparation, where: str) -> Tensor | StoredImages:
    if not preparation:
        return images
    return images.prepared(preparation) if isinstance(images, StoredImages) else prepared(images, preparation, where)


def called(name: str, part: Part) -> str:
    """What the part of a data set is called in results: of a path the last name."""
    return f"{Word.parse(name).short} ({part})"
