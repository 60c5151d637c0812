"""The forms in which data sets lie on disk, by the kind that their words begin with."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from robench.data import archives, columns, corruptions, image_files, tables
from robench.data.catalog import DATASETS, FORMS
from robench.data.parts import Part
from robench.data.paths import kind_of
from robench.data.preparation import OPTIONS as PREPARATION
from robench.data.stored import StoredImages
from robench.data.word import Word
from robench.utils.errors import UserError, unknown

PYTHON = "python"
"""The kind of a word that only names data given in Python."""


class ReadData(NamedTuple):
    """images [N, C, H, W], labels [N], and the names of the classes where they have some."""

    images: Tensor | StoredImages
    labels: Tensor
    classes: Sequence[str] = ()


@dataclass(frozen=True)
class Request:
    """What is asked for: the word, the folder of all data, and whether to fetch what is missing there."""

    word: Word
    root: Path
    download: bool

    @property
    def path(self) -> Path:
        return self.find(self.word.where)

    @property
    def where(self) -> str:
        """For messages."""
        return f"dataset {self.word.kind}:{self.path}" if self.word.where else f"dataset {self.word.name}"

    def find(self, path: str) -> Path:
        """The path, where ~ is home, from here or, where that leads nowhere, under the folder of all data."""
        here, under = Path(os.path.expanduser(path)), self.root / path
        return under if under.exists() and not here.exists() else here


class Form(NamedTuple):
    """The options of its words, beside those of how images are prepared, and how it is read."""

    options: Sequence[str]
    read: Callable[[Request, Part], ReadData]


def _archive(request: Request, part: Part) -> ReadData:
    return _in_memory(*archives.read(request.path, part, request.where, request.word.options))


def _table(request: Request, part: Part) -> ReadData:
    images, labels = tables.read(request.word.kind, request.path, part, request.where, request.word.options)
    return ReadData(images, torch.from_numpy(labels))


def _image_folder(request: Request, part: Part) -> ReadData:
    images, labels, classes = image_files.read(request.path, part, request.where)
    return ReadData(images, torch.from_numpy(labels), classes)


def _corruption(request: Request, part: Part) -> ReadData:
    folder, corruption, severity = corruptions.split(request.word.where)
    where = f"dataset {request.word.name}"
    return _in_memory(*corruptions.read(request.find(folder), corruption, severity, part, where))


def _named(request: Request, part: Part) -> ReadData:
    return _in_memory(*DATASETS[request.word.name].read(part, request.root, request.download))


def _in_memory(images: np.ndarray, labels: np.ndarray) -> ReadData:
    images = np.require(images, requirements=["C", "W"])  # libraries take views of theirs, which other strides forbid
    return ReadData(torch.from_numpy(images), torch.from_numpy(labels.astype(np.int64)))


ON_DISK = {
    **dict.fromkeys(("npz", "npy", "pt", "safetensors"), Form(archives.OPTIONS, _archive)),
    **dict.fromkeys(tables.KINDS, Form(columns.OPTIONS, _table)),
    **dict.fromkeys(corruptions.KINDS, Form((), _corruption)),
    "imagefolder": Form((), _image_folder),
}


def read(word: Word, part: Part, root: Path, download: bool) -> ReadData:
    """The data that the word asks for, as they are stored."""
    if word.kind == PYTHON and word.where:
        raise UserError(
            f"the data set {word.name} was given in Python and cannot be read by its name; name another with "
            "--dataset, or give it again as dataset="
        )
    if word.kind in ON_DISK and word.where:
        form = ON_DISK[word.kind]
    elif word.name in DATASETS:
        form = Form((), _named)
    else:
        raise unknown("dataset", word.name, [*DATASETS, *FORMS])
    word.check_options((*form.options, *PREPARATION))
    return form.read(Request(word, root, download), part)


def stored_as(word: Word) -> Word:
    """The word by which a set with a name is read, where that is the word of a form."""
    known = DATASETS.get(word.name)
    if known is None or not isinstance(known.reader, str):
        return word
    form = Word.parse(known.reader)
    return Word(form.name, word.options or form.options, word.shape)


def word_of(source: str | os.PathLike[str]) -> Word:
    """As it is written; of a path, and of a text that is no word but leads somewhere, as its contents say."""
    if not isinstance(source, str):
        return Word(f"{kind_of(Path(source))}:{os.fspath(source)}", {}, None)
    word = Word.parse(source)
    if word.where or word.name in DATASETS or not word.name or not Path(word.name).exists():
        return word
    return Word(f"{kind_of(Path(word.name))}:{word.name}", word.options, word.shape)
