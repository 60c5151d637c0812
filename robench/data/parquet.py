"""Encoded images that stay on disk, in Parquet files, until they are asked for."""

import hashlib
import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from robench.utils.errors import UserError


@dataclass(frozen=True)
class StoredImages:
    """The images [N, C, H, W], uint8, of Parquet files one after another: `column` names their encoded bytes.

    Indexed by rows, as a tensor is, it decodes these alone. The group of rows read last is kept, still encoded.
    """

    files: Sequence[Path]
    column: str
    where: str
    """the data set, for messages"""
    device: torch.device | str = "cpu"
    _kept: dict[int, pa.Array] = field(default_factory=dict, compare=False, repr=False)

    dtype = torch.uint8

    def __reduce__(self) -> tuple[Any, ...]:
        return StoredImages, (self.files, self.column, self.where, self.device)

    @cached_property
    def _groups(self) -> list[tuple[Path, int, int]]:
        """Every group of rows: its file, its place there, how many rows it has."""
        found = []
        for file in self.files:
            with _opened(file, self.where) as opened:
                sizes = [opened.metadata.row_group(group).num_rows for group in range(opened.num_row_groups)]
            found += [(file, group, size) for group, size in enumerate(sizes) if size]
        return found

    @cached_property
    def _ends(self) -> np.ndarray:
        """Where each group ends among all rows."""
        return np.cumsum([size for _, _, size in self._groups])

    def __len__(self) -> int:
        return int(self._ends[-1]) if self._groups else 0

    @cached_property
    def shape(self) -> torch.Size:
        image = self._decoded(0, self._group(0)[0]).shape if self._groups else (1, 1, 1)
        return torch.Size((len(self), *image))

    def dim(self) -> int:
        return len(self.shape)

    def numel(self) -> int:
        return self.shape.numel()

    def to(self, device: torch.device) -> "StoredImages":
        """The same, given on the device."""
        return StoredImages(self.files, self.column, self.where, device)

    def __getitem__(self, rows: Any) -> Tensor:
        """Images [B, C, H, W] of a slice or of row numbers [B]."""
        ids = np.arange(*rows.indices(len(self))) if isinstance(rows, slice) else np.asarray(rows)
        images = np.empty((len(ids), *self.shape[1:]), dtype=np.uint8)
        groups = np.searchsorted(self._ends, ids, side="right")
        for group in np.unique(groups).tolist():
            encoded = self._group(group)
            first = int(self._ends[group]) - len(encoded)
            for place in np.flatnonzero(groups == group):
                images[place] = self._fitting(int(ids[place]), encoded[int(ids[place]) - first])
        return torch.from_numpy(images).to(self.device)

    def digest(self) -> bytes:
        """Of the encoded images in their order, however files and groups divide them; none is decoded."""
        lengths, content = hashlib.sha256(), hashlib.sha256()
        for group in range(len(self._groups)):
            encoded = self._read(group)
            _, ends, values = encoded.buffers()
            ends = np.frombuffer(ends, dtype=np.int64)[encoded.offset : encoded.offset + len(encoded) + 1]
            lengths.update(np.diff(ends).data)
            content.update(memoryview(values or b"")[ends[0] : ends[-1]])
        return lengths.digest() + content.digest()

    def _group(self, group: int) -> pa.Array:
        if group not in self._kept:
            self._kept.clear()
            self._kept[group] = self._read(group)
        return self._kept[group]

    def _read(self, group: int) -> pa.Array:
        file, place, _ = self._groups[group]
        with _opened(file, self.where) as opened:
            column = opened.read_row_group(place, columns=[self.column], use_threads=False).column(0).combine_chunks()
        return (column.field("bytes") if pa.types.is_struct(column.type) else column).cast(pa.large_binary())

    def _decoded(self, row: int, encoded: pa.LargeBinaryScalar) -> np.ndarray:
        return decode(encoded.as_buffer(), f"{self.where}, row {row}")

    def _fitting(self, row: int, encoded: pa.LargeBinaryScalar) -> np.ndarray:
        image = self._decoded(row, encoded)
        if image.shape != self.shape[1:]:
            sizes = f"{tuple(self.shape[1:])} in row 0 and {image.shape} in row {row}"
            raise UserError(f"{self.where}: expected images of one size, got {sizes}")
        return image


def stored(folder: Path, part: str) -> tuple[StoredImages, np.ndarray]:
    """The images and labels [N] of files PART-*.parquet with a column of encoded images (bytes, or a struct with a
    field `bytes`) and one of integer labels; of several integer columns the one called `label`."""
    where = f"dataset parquet:{folder}"
    files = sorted(folder.glob(f"**/{part}-*.parquet"))
    if not files:
        raise UserError(f"{where}: expected files {part}-*.parquet in that folder, found none")
    with _opened(files[0], where) as opened:
        schema = opened.schema_arrow
    encoded = [each.name for each in schema if _holds_images(each.type)]
    integers = [each.name for each in schema if pa.types.is_integer(each.type)]
    if not encoded or not integers:
        raise UserError(
            f"{where}: expected a column of encoded images and one of integer labels, got {', '.join(schema.names)}"
        )
    label = "label" if "label" in integers else integers[0]
    labels = [_labels(file, label, where) for file in files]
    column = encoded[-1] + ("" if _is_bytes(schema.field(encoded[-1]).type) else ".bytes")
    return StoredImages(files, column, where), np.concatenate(labels)


def decode(encoded: Any, where: str) -> np.ndarray:
    """An image [C, H, W], grey or in colours, from the bytes of a file."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(encoded)) as image:
            pixels = np.asarray(image if image.mode == "L" else image.convert("RGB"))
    except Exception as error:
        raise UserError(f"{where}: not an image ({error})") from None
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


def _holds_images(kind: pa.DataType) -> bool:
    return _is_bytes(kind) or (pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0)


def _is_bytes(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _labels(file: Path, column: str, where: str) -> np.ndarray:
    with _opened(file, where) as opened:
        labels = opened.read(columns=[column], use_threads=False).column(0)
    if labels.null_count:
        raise UserError(f"{where}: expected a label for every image, got {labels.null_count} empty ones in {file.name}")
    values: np.ndarray = labels.to_numpy().astype(np.int64)
    return values


@contextmanager
def _opened(file: Path, where: str) -> Iterator[pq.ParquetFile]:
    try:
        with pq.ParquetFile(file) as opened:
            yield opened
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{where}: {str(error).splitlines()[0]}") from None
