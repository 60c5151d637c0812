"""The data sets: images and labels in the set's own order, by a name such as `mnist` or `parquet:DIR`."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from robench.data import archives, columns, corruptions, image_files, resize, tables
from robench.data.catalog import DATASETS, FORMS
from robench.data.parts import Part
from robench.data.stored import StoredImages
from robench.data.word import Word
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
            for piece in self.images.contents():
                digest.update(piece)
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


def load(
    name: str,
    part: Part,
    *,
    root: Path | str = "data",
    download: bool = False,
    stream: bool = False,
) -> Split:
    """One part of a data set. `root` is where torchvision's sets lie, and relative paths that lead nowhere from the
    working directory; `download` fetches one of torchvision's that is missing; `stream` leaves encoded images on
    disk."""
    word = Word.parse(name)
    images, labels = _read(word, part, Path(root), download)
    if word.shape is not None or not stream:
        images = images[:]
    split = Split(called(str(Word(word.name, word.options, None)), part), images, torch.from_numpy(labels))
    return split if word.shape is None else split.shaped(word.shape)


def _read(word: Word, part: Part, root: Path, download: bool) -> tuple[Tensor | StoredImages, np.ndarray]:
    place, where = _found(word.where, root), f"dataset {word.kind}:{_found(word.where, root)}"
    if word.kind in FILES and word.where:
        word.check_options(archives.OPTIONS)
        images, labels = archives.read(place, part, where, word.options)
    elif word.kind in tables.KINDS and word.where:
        word.check_options(columns.OPTIONS)
        return tables.read(word.kind, place, part, where, word.options)
    elif word.kind == "imagefolder" and word.where:
        word.check_options(())
        return image_files.read(place, part, where)[:2]
    elif word.kind in corruptions.KINDS and word.where:
        folder, corruption, severity = corruptions.split(word.where)
        images, labels = corruptions.read(_found(folder, root), corruption, severity, part, f"dataset {word.name}")
    elif word.name in DATASETS:
        images, labels = DATASETS[word.name].read(part, root, download)
    else:
        raise unknown("dataset", word.name, [*DATASETS, *FORMS])
    images = np.require(images, requirements=["C", "W"])  # libraries take views of theirs, which other strides forbid
    return torch.from_numpy(images), labels.astype(np.int64)


FILES = ("npz", "npy", "pt", "safetensors")
"""Kinds of files, and folders, of arrays."""


def _found(where: str, root: Path) -> Path:
    here, under = Path(where), root / where
    return under if under.exists() and not here.exists() else here


def called(name: str, part: Part) -> str:
    """What the part of a data set is called in results: of a path the last name."""
    return f"{Word.parse(name).short} ({part})"
