"""Folders of image files, a folder for each class."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from robench.data.parts import Part, divided, named
from robench.data.stored import StoredImages
from robench.utils.errors import UserError, first_line


@dataclass(frozen=True)
class FileStore:
    """An image a file, by their paths in the folder."""

    folder: Path
    files: Sequence[str]

    def __len__(self) -> int:
        return len(self.files)

    def called(self, row: int) -> str:
        return self.files[row]

    def read(self, ids: np.ndarray) -> Iterator[tuple[int, Any]]:
        for place, row in enumerate(ids.tolist()):
            yield place, self._bytes(row)

    def digest(self, *, prepared: bool) -> bytes | None:
        """Where the images are taken as they are, their pixels tell."""
        if not prepared:
            return None
        content = hashlib.sha256()
        for row in range(len(self)):
            encoded = self._bytes(row)
            content.update(len(encoded).to_bytes(8, "little"))
            content.update(encoded)
        return content.digest()

    def _bytes(self, row: int) -> bytes:
        path = self.folder / self.files[row]
        try:
            return path.read_bytes()
        except OSError as error:
            raise UserError(f"{path} cannot be read: {first_line(error)}") from None


def read(folder: Path, part: Part, where: str) -> tuple[StoredImages, np.ndarray, list[str]]:
    """The images, labels [N] and classes of PART/CLASS/FILE, or of CLASS/FILE, of which both parts are the same; in
    torchvision's order, the labels counting the sorted classes, which the parts must share."""
    from torchvision.datasets import ImageFolder

    if not folder.is_dir():
        raise UserError(f"{where}: there is no such folder")
    folders = [path.name for path in folder.iterdir() if path.is_dir()]
    name = named(part, folders, where)
    if name is None and divided(folders):
        wanted = "train" if part == "train" else "test or val"
        raise UserError(f"{where}: expected a folder {wanted} in it, got {', '.join(sorted(folders)[:5])}")
    place = folder / (name or ".")
    try:
        found = ImageFolder(str(place))
    except (FileNotFoundError, OSError) as error:  # no class, or a class without images
        raise UserError(f"{where}: {first_line(error)}") from None
    train = named("train", folders, where)
    if name and train and (trained := _classes(folder / train)) != found.classes:
        differing = sorted({*trained} ^ {*found.classes})
        raise UserError(f"{where}: expected the classes of train in {name}, which differ in {', '.join(differing[:5])}")
    if len(found.classes) == 1:
        raise UserError(
            f"{where}: expected a folder for each class, got {found.classes[0]} alone; sort the images by class"
        )
    files = [str(Path(file).relative_to(place)) for file, _ in found.samples]
    return StoredImages(FileStore(place, files), where), np.array(found.targets), found.classes


def _classes(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.is_dir())
