"""Images and labels in tables on disk: Parquet files, and the Arrow files that Hugging Face's `datasets` writes."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from robench.data import arrays, columns
from robench.data.parts import WORDS, Part, named
from robench.data.stored import StoredImages
from robench.utils.errors import UserError, first_line


class Groups(Protocol):
    """A file open for reading: its rows in groups."""

    schema: pa.Schema
    sizes: list[int]

    def read(self, group: int, column: str) -> pa.ChunkedArray: ...


class ParquetGroups:
    """Of a Parquet file."""

    def __init__(self, file: Path) -> None:
        self._file = pq.ParquetFile(file)
        self.schema = self._file.schema_arrow
        self.sizes = [self._file.metadata.row_group(group).num_rows for group in range(self._file.num_row_groups)]

    def read(self, group: int, column: str) -> pa.ChunkedArray:
        return self._file.read_row_group(group, columns=[column], use_threads=False).column(column)


class ArrowGroups:
    """Of an Arrow file, whose rows stay mapped."""

    def __init__(self, file: Path) -> None:
        source = pa.memory_map(str(file))
        try:
            self._batches = pa.ipc.open_stream(source).read_all().to_batches()
            self.schema = pa.ipc.open_stream(pa.memory_map(str(file))).schema
        except pa.ArrowInvalid:  # the other of its two forms
            opened = pa.ipc.open_file(source)
            self._batches, self.schema = [opened.get_batch(i) for i in range(opened.num_record_batches)], opened.schema
        self.sizes = [batch.num_rows for batch in self._batches]

    def read(self, group: int, column: str) -> pa.ChunkedArray:
        return pa.chunked_array([self._batches[group].column(column)])


KINDS: dict[str, type[ParquetGroups] | type[ArrowGroups]] = {"parquet": ParquetGroups, "arrow": ArrowGroups}


@dataclass(frozen=True)
class TableStore:
    """The encoded images of a column of files one after another. The group of rows read last is kept, still encoded."""

    kind: str
    files: Sequence[Path]
    column: str
    where: str
    _kept: dict[int, pa.Array] = field(default_factory=dict, compare=False, repr=False)

    def __reduce__(self) -> tuple[Any, ...]:
        return TableStore, (self.kind, self.files, self.column, self.where)

    @cached_property
    def _groups(self) -> list[tuple[Path, int, int]]:
        """Every group of rows: its file, its place there, how many rows it has."""
        found = []
        for file in self.files:
            with _opened(self.kind, file, self.where) as opened:
                found += [(file, group, size) for group, size in enumerate(opened.sizes) if size]
        return found

    @cached_property
    def _ends(self) -> np.ndarray:
        """Where each group ends among all rows."""
        return np.cumsum([size for _, _, size in self._groups])

    def __len__(self) -> int:
        return int(self._ends[-1]) if self._groups else 0

    def called(self, row: int) -> str:
        return f"row {row}"

    def read(self, ids: np.ndarray) -> Iterator[tuple[int, Any]]:
        groups = np.searchsorted(self._ends, ids, side="right")
        for group in np.unique(groups).tolist():
            encoded = self._group(group)
            first = int(self._ends[group]) - len(encoded)
            for place in np.flatnonzero(groups == group).tolist():
                if not (image := encoded[int(ids[place]) - first]).is_valid:
                    raise UserError(f"{self.where}, row {ids[place]}: there is no image, or only the path of one")
                yield place, image.as_buffer()

    def digest(self, *, prepared: bool) -> bytes:
        """However files and groups divide them."""
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
        with _opened(self.kind, file, self.where) as opened:
            column = opened.read(place, self.column).combine_chunks()
        return (column.field("bytes") if pa.types.is_struct(column.type) else column).cast(pa.large_binary())


def read(kind: str, place: Path, part: Part, where: str, options: Mapping[str, str]) -> tuple[StoredImages, np.ndarray]:
    """The images and labels [N] of a part: of one file, or of the files of a folder that are called by it."""
    files = [place] if place.is_file() else _files(kind, place, part, where)
    with _opened(kind, files[0], where) as opened:
        image, label = columns.chosen(opened.schema, where, options)
    labels = np.concatenate([_labels(kind, file, label, where) for file in files])
    return StoredImages(TableStore(kind, files, image, where), where), arrays.labels(labels, f"{where}, {label}")


def _files(kind: str, folder: Path, part: Part, where: str) -> list[Path]:
    """Those of one configuration, called PART-00000-of-00002, NAME-PART, or anything in a folder PART."""
    files = sorted(file for file in folder.glob(f"**/*.{kind}") if not file.name.startswith("cache-"))
    there = {file: _part_of(file, folder) for file in files}
    word = named(part, set(there.values()) - {""}, where)
    if word is None and there and not any(there.values()):
        word = ""  # one table, of which both parts are the same
    files = [file for file, own in there.items() if own == word]
    if not files:
        found = ", ".join(str(file.relative_to(folder)) for file in list(there)[:5]) or "none"
        raise UserError(f"{where}: expected files {part}-*.{kind} in that folder, found {found}")
    configurations = sorted({_configuration(file, folder) for file in files})
    if len(configurations) > 1:
        raise UserError(
            f"{where}: it has the configurations {', '.join(configurations)}; name the folder of one, "
            f"{kind}:{folder / configurations[0]}"
        )
    if word == "" and len(tables := sorted({_table(file) for file in files})) > 1:
        raise UserError(
            f"{where}: none of {', '.join(tables[:5])} says by its name which part it is of; name one of them"
        )
    return files


def _part_of(file: Path, folder: Path) -> str:
    """The word for a part in the name of the file, else the name of its folder; nothing where there is none."""
    stem = file.stem.partition("-of-")[0].lower().replace("_", "-").split("-")
    words = [word for word in (stem[0], *reversed(stem[1:])) if word in WORDS]
    above = file.parent.name.lower() if file.parent != folder else ""
    return words[0] if words else above if above in WORDS else ""


def _table(file: Path) -> str:
    """What the shards of one table are called in common."""
    return file.stem.partition("-of-")[0].rstrip("0123456789-")


def _configuration(file: Path, folder: Path) -> str:
    """The folder that it is in, less the folder of its part."""
    place = file.parent.relative_to(folder)
    return str(place.parent if place.name.lower() in WORDS else place)


def _labels(kind: str, file: Path, column: str, where: str) -> np.ndarray:
    with _opened(kind, file, where) as opened:
        if column not in opened.schema.names:
            raise UserError(f"{where}: there is no column {column} in {file.name}")
        parts = [opened.read(group, column) for group in range(len(opened.sizes))]
    empty = sum(part.null_count for part in parts)
    if empty:
        raise UserError(f"{where}: expected a label for every image, got {empty} empty ones in {file.name}")
    values = [value for part in parts for value in part.to_pylist()]
    return arrays.plain(values, f"{where}, {column}") if values else np.zeros(0, dtype=np.int64)


@contextmanager
def _opened(kind: str, file: Path, where: str) -> Iterator[Groups]:
    try:
        yield KINDS[kind](file)
    except (pa.ArrowException, OSError, KeyError) as error:
        raise UserError(f"{where}: {first_line(error)}") from None
