"""The rows of a cell on disk, in parts.

A part is a Parquet file, written under a temporary name and renamed, never changed; its name ends in a checksum of its
content, but for those of older versions. So a killed run leaves whole parts, damage is found when a part is read, and
two runs over one folder can only repeat each other's rows. There may be more rows than fit in memory: whoever names the
examples wanted reads those alone.
"""

import hashlib
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from robench.ledger.schema import ROW, UNFINISHED
from robench.utils.errors import UserError
from robench.utils.files import replacing

WINDOW = 65_536
"""Examples whose rows are held at a time while a cell is gone through."""

T = TypeVar("T")


@dataclass(frozen=True)
class Parts:
    """All parts in a folder, as one table."""

    path: Path

    def append(self, rows: pa.Table) -> None:
        """Adds rows of the schema `ROW`."""
        with replacing(self.path / "part.parquet", _named_by_content) as temporary:
            pq.write_table(rows, temporary, compression="zstd")

    def table(self, ids: range | None = None) -> pa.Table:
        """One row an example, in order of example; where there are several, a finished one counts, else an error. Of
        the examples `ids`, where they are given."""
        return self._steadily(lambda parts: _merged(parts, ids))

    def span(self) -> range:
        """A range that holds all its examples."""
        return self._steadily(_span)

    def size(self) -> int:
        """How many examples have a row."""
        parts = self._paths()
        if len(parts) == 1:
            with suppress(_Vanished), _part(parts[0]) as part:
                _check_columns(part)
                return int(part.metadata.num_rows)
        return len(self.table())

    def compact(self) -> None:
        """Puts the parts into one; a reader meanwhile finds every row in the old parts, the new one, or both."""
        self._steadily(self._compact)

    def damage(self) -> Iterator[str]:
        """What is wrong with any part, and that it is to be removed."""
        for part in self._paths():
            try:
                _read(part, None)
            except UserError as error:
                yield str(error)
            except _Vanished:  # compacted meanwhile
                continue

    def _compact(self, parts: Sequence[Path]) -> None:
        if len(parts) < 2:
            return
        with (
            replacing(self.path / "part.parquet", _named_by_content) as temporary,
            pq.ParquetWriter(temporary, ROW, compression="zstd") as writer,
        ):
            for window in windows(_span(parts)):
                if len(table := _merged(parts, window)):
                    writer.write_table(table)
        for part in parts:
            part.unlink(missing_ok=True)

    def _paths(self) -> list[Path]:
        return sorted(self.path.glob("part-*.parquet"))

    def _steadily(self, read: Callable[[Sequence[Path]], T]) -> T:
        """What is read of the parts, all as they are at one time."""
        for attempt in range(20):  # a part may be compacted away between the listing and the reading
            with suppress(_Vanished):
                return read(self._paths())
            time.sleep(0.01 * attempt)
        raise UserError(f"the parts of {self.path} change faster than they can be read; is another run compacting it?")


def windows(ids: range) -> Iterator[range]:
    """The examples, `WINDOW` at a time: the same ones together whatever the range."""
    for start in range(ids.start - ids.start % WINDOW, ids.stop, WINDOW):
        yield range(max(start, ids.start), min(start + WINDOW, ids.stop))


def nullable(kind: pa.DataType) -> Any:
    """Pandas types that know a missing value from false and from NaN."""
    return {
        pa.bool_(): pd.BooleanDtype(),
        pa.int32(): pd.Int32Dtype(),
        pa.int64(): pd.Int64Dtype(),
        pa.string(): pd.StringDtype(),
    }.get(kind)


class _Vanished(Exception):  # noqa: N818
    """A part is there no more."""


def _merged(parts: Sequence[Path], ids: range | None) -> pa.Table:
    """See `Parts.table`."""
    tables = [_read(part, ids) for part in parts]
    whole = pa.concat_tables(tables) if tables else ROW.empty_table()
    if (np.diff(whole["example"].to_numpy()) > 0).all():
        return whole
    frame = whole.to_pandas(types_mapper=nullable)
    rank = frame["status"].map({status: place for place, status in enumerate(UNFINISHED, 1)}).fillna(0)
    frame = frame.assign(rank=rank).sort_values(["example", "rank"], kind="stable")
    frame = frame.drop_duplicates("example").drop(columns="rank")
    return pa.Table.from_pandas(frame, schema=ROW, preserve_index=False)


def _read(part: Path, ids: range | None) -> pa.Table:
    """A part's rows, of these examples; columns that its version of robench did not know are null."""
    with _part(part) as file:
        if not file.schema_arrow.equals(ROW):
            _check_columns(file)
            table = pq.read_table(part, schema=ROW, partitioning=None)
        elif ids is None:
            table = file.read(use_threads=False)
        else:
            spans = enumerate(_spans(file))
            table = file.read_row_groups([i for i, span in spans if _meet(span, ids)], use_threads=False)
    if ids is None:
        return table
    examples = table["example"].to_numpy()
    wanted = (examples >= ids.start) & (examples < ids.stop)
    return table if wanted.all() else table.filter(pa.array(wanted))


@contextmanager
def _part(path: Path) -> Iterator[pq.ParquetFile]:
    try:
        status = path.stat()
        _check_digest(path, status.st_size, status.st_mtime_ns)
        with pq.ParquetFile(path) as file:
            yield file
    except FileNotFoundError:
        raise _Vanished from None
    except (pa.ArrowException, OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({str(error).splitlines()[0]}); remove it and run again") from None


def _spans(part: pq.ParquetFile) -> list[range]:
    """Of each group of rows, the range that holds its examples."""
    return [_span_of_group(part, group) for group in range(part.num_row_groups)]


def _span_of_group(part: pq.ParquetFile, group: int) -> range:
    column = part.schema_arrow.names.index("example")
    statistics = part.metadata.row_group(group).column(column).statistics
    if statistics and statistics.has_min_max:
        return range(statistics.min, statistics.max + 1)
    examples = part.read_row_group(group, columns=["example"])["example"].to_numpy()
    return range(examples.min(), examples.max() + 1) if len(examples) else range(0)


def _span(parts: Iterable[Path]) -> range:
    """A range that holds all examples of the parts."""
    spans = []
    for part in parts:
        with _part(part) as file:
            spans += [span for span in _spans(file) if span]
    return range(min((span.start for span in spans), default=0), max((span.stop for span in spans), default=0))


def _meet(first: range, second: range) -> bool:
    return first.start < second.stop and second.start < first.stop


def _named_by_content(part: Path) -> str:
    """What a new part is to be called."""
    return f"part-{uuid.uuid4().hex}.{_digest(part)}.parquet"


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:32]


@cache
def _check_digest(path: Path, size: int, changed: int) -> None:
    """Raises ValueError where a part of so many bytes, last changed then, is not what its name says; once a process."""
    _, *digest = path.stem.split(".")
    if digest and digest != [_digest(path)]:
        raise ValueError("it is not as it was written: its checksum is another")


def _check_columns(part: pq.ParquetFile) -> None:
    needed = {field.name for field in ROW if not field.nullable}
    if lacking := needed - set(part.schema_arrow.names):
        raise pa.ArrowInvalid(f"it lacks {', '.join(sorted(lacking))}")
