"""Per-example outcomes on disk. One cell is one attack on one model; its rows are examples.

A cell is a folder named by the fingerprint of everything that could change its numbers (`cell.json` holds it in
words), with its rows in Parquet parts. A part is written under a temporary name and renamed, never changed; so a killed
run leaves whole parts, and two runs over one folder can only repeat each other's rows. A cell may have more rows than
fit in memory: whoever names the examples wanted reads those alone.
"""

import json
import os
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from robench.utils.errors import UserError
from robench.utils.files import make_folder, replacing
from robench.utils.fingerprints import fingerprint

FLUSH_SECONDS = 20.0
"""A killed run loses at most the rows of this long."""

WINDOW = 65_536
"""Examples whose rows are held at a time by whoever goes through a cell."""

T = TypeVar("T")

CLEAN = "clean"
"""The cell that holds a model's predictions on the unattacked images."""

DIAGNOSIS = "diagnosis"
"""The cell that holds, in place of rows, what was found about a model's gradients."""

UNFINISHED = ("error", "skipped")
"""The states of a row that tell nothing of the attack."""

SAME = 1e-6
"""How far two radii may be apart and be one: the absolute tolerance of the judge."""

NEEDED = {
    "key": ("model", "dataset", "threat", "attack"),
    "about": (
        *("attack", "model", "arch", "defense", "recipe", "train_seed", "trained_on"),
        *("dataset", "norm", "eps", "classes"),
    ),
    "run": ("started",),
}
"""What a cell must say of itself to be shown."""

ROW = pa.schema(
    [
        pa.field("example", pa.int64(), nullable=False),  # row in the data set
        pa.field("label", pa.int32(), nullable=False),
        pa.field("clean_prediction", pa.int32(), nullable=False),
        pa.field("fooled", pa.bool_()),  # some candidate did; true where the clean image is misclassified; null: error
        pa.field("fooled_final", pa.bool_()),  # the last iterate did; null unless the run read it
        pa.field("first_step", pa.int32()),  # steps taken before the first candidate that fooled; null: none, or clean
        pa.field("adversarial_prediction", pa.int32()),
        pa.field("margin", pa.float32()),  # max_{j != y} z_j - z_y of the candidate kept
        pa.field("distance", pa.float32()),  # of the candidate kept, in the norm of the threat
        pa.field("forwards", pa.int32(), nullable=False),
        pa.field("backwards", pa.int32(), nullable=False),
        pa.field("queries", pa.int32(), nullable=False),
        pa.field("seconds", pa.float32(), nullable=False),  # the batch's time shared among its examples
        pa.field("share_right", pa.float32()),  # of the draws of a stochastic model; null for a deterministic one
        pa.field("seed", pa.int64(), nullable=False),
        pa.field("status", pa.string(), nullable=False),  # ok, invalid, unstable, error; skipped: broken already
        pa.field("message", pa.string()),  # of an error
    ]
)


@dataclass(frozen=True)
class Cell:
    """A folder of the ledger. `key`: what the fingerprint is made of. `about`: names for people. `run`: what was
    frozen when the cell was begun (batch size, threads), with what made it (command, versions, device, date)."""

    path: Path

    @cached_property
    def _document(self) -> dict[str, dict[str, Any]]:
        path = self.path / "cell.json"
        try:
            document = json.loads(path.read_text())
            return {part: dict(document[part]) for part in ("key", "about", "run")}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path} cannot be read ({error}); remove the folder {self.path} and run again") from None

    @property
    def key(self) -> dict[str, Any]:
        return self._document["key"]

    @property
    def about(self) -> dict[str, Any]:
        return self._document["about"]

    @property
    def run(self) -> dict[str, Any]:
        return self._document["run"]

    @property
    def threat(self) -> str:
        """The norm and the radius, however that was written: "linf 8/255"."""
        norm, eps = self.key["threat"]
        return f"{norm} {radius(eps)}"

    @property
    def found(self) -> dict[str, Any] | None:
        """The document of a cell without rows, once it is written."""
        path = self.path / "found.json"
        try:
            document: dict[str, Any] = json.loads(path.read_text())
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise UserError(f"{path} cannot be read ({error}); remove it and run again") from None
        return document

    def check(self) -> None:
        """Raises what keeps its rows from being read, and what it fails to say of itself."""
        for part, names in NEEDED.items():
            if lacking := [name for name in names if name not in getattr(self, part)]:
                path = self.path / "cell.json"
                raise UserError(f"{path} lacks {', '.join(lacking)}; remove the folder {self.path} and run again")
        if self.about["attack"] == DIAGNOSIS and self.found is not None and not _is_diagnosis(self.found):
            raise UserError(f"{self.path / 'found.json'} holds no diagnosis; remove it and run again")
        self.size()

    def record(self, document: dict[str, Any]) -> None:
        """Writes what was found."""
        with replacing(self.path / "found.json") as temporary:
            temporary.write_text(json.dumps(document, indent=1, sort_keys=True) + "\n")

    def table(self, ids: range | None = None) -> pa.Table:
        """One row an example, in order of example; where there are several, a finished one counts, else an error. Of
        the examples `ids`, where they are given."""
        return self._steadily(lambda parts: _merged(parts, ids))

    def rows(self, ids: range | None = None) -> pd.DataFrame:
        """The table as a frame."""
        frame: pd.DataFrame = self.table(ids).to_pandas(types_mapper=_nullable)
        return frame

    def span(self) -> range:
        """A range that holds all its examples."""
        return self._steadily(_span)

    def size(self) -> int:
        """How many examples have a row."""
        parts = sorted(self.path.glob("part-*.parquet"))
        if len(parts) == 1:
            with suppress(OSError, pa.ArrowInvalid), pq.ParquetFile(parts[0]) as part:
                _check_columns(part)
                return int(part.metadata.num_rows)
        return len(self.table())

    def present(self, ids: range | None = None) -> set[int]:
        """The examples, of `ids` where they are given, that need not be run again."""
        table = self.table(ids)
        return set(table["example"].to_numpy()[finished(table)].tolist())

    def lacking(self, ids: range) -> int:
        """How many of these examples are yet to be run."""
        return len(ids) - sum(len(self.present(window)) for window in windows(ids))

    def append(self, rows: pa.Table) -> None:
        """Adds rows of the schema `ROW`."""
        with replacing(self._new_part()) as temporary:
            pq.write_table(rows, temporary, compression="zstd")

    def keep_images(self, ids: np.ndarray, x_adv: np.ndarray) -> None:
        """Adds adversarial examples [B, ...]."""
        with replacing(self.path / f"images-{uuid.uuid4().hex}.npz") as temporary, temporary.open("wb") as file:
            np.savez(file, ids=ids, x_adv=x_adv)

    def pictured(self) -> np.ndarray:
        """The examples whose adversarial examples were kept, some perhaps twice."""
        kept = [np.array([], dtype=np.int64)]
        for path in self.path.glob("images-*.npz"):
            with np.load(path, allow_pickle=False) as archive:
                kept.append(archive["ids"])
        return np.concatenate(kept)

    def images(self) -> dict[int, np.ndarray]:
        """The adversarial examples that were kept, by their rows in the data set."""
        kept: dict[int, np.ndarray] = {}
        for path in sorted(self.path.glob("images-*.npz")):
            with np.load(path, allow_pickle=False) as archive:
                kept.update(zip(archive["ids"].tolist(), archive["x_adv"], strict=True))
        return kept

    def compact(self) -> None:
        """Puts the parts into one; whoever reads meanwhile finds every row in the old parts, the new one, or both."""
        self._steadily(self._compact)

    def _compact(self, parts: Sequence[Path]) -> None:
        if len(parts) < 2:
            return
        with (
            replacing(self._new_part()) as temporary,
            pq.ParquetWriter(temporary, ROW, compression="zstd") as writer,
        ):
            for window in windows(_span(parts)):
                if len(table := _merged(parts, window)):
                    writer.write_table(table)
        for part in parts:
            part.unlink(missing_ok=True)

    @contextmanager
    def writer(self) -> Iterator[Callable[[pa.Table], None]]:
        """Gives a function that takes rows; they are on disk after `FLUSH_SECONDS`, or when the block ends or fails."""
        waiting: list[pa.Table] = []
        flushed = time.monotonic()

        def flush() -> None:
            nonlocal flushed
            if waiting:
                self.append(pa.concat_tables(waiting))
                waiting.clear()
            flushed = time.monotonic()

        def add(rows: pa.Table) -> None:
            waiting.append(rows)
            if time.monotonic() - flushed >= FLUSH_SECONDS:
                flush()

        try:
            yield add
        finally:
            flush()

    def _new_part(self) -> Path:
        return self.path / f"part-{uuid.uuid4().hex}.parquet"

    def _steadily(self, read: Callable[[Sequence[Path]], T]) -> T:
        """What is read of the parts, all as they are at one time."""
        for attempt in range(20):  # a part may be compacted away between the listing and the reading
            with suppress(_Vanished):
                return read(sorted(self.path.glob("part-*.parquet")))
            time.sleep(0.01 * attempt)
        raise UserError(f"the parts of {self.path} change faster than they can be read; is another run compacting it?")


class Ledger:
    """The folder of all cells, `results/ledger`."""

    def __init__(self, results: Path | str) -> None:
        self.path = Path(results) / "ledger"

    def cells(self) -> list[Cell]:
        return [Cell(path.parent) for path in sorted(self.path.glob("*/cell.json"))]

    def readable(self) -> tuple[list[Cell], list[str]]:
        """The cells that can be read, and of each other one a sentence that says what is wrong with it."""
        whole, broken = [], []
        for cell in self.cells():
            try:
                cell.check()
                whole.append(cell)
            except UserError as error:
                broken.append(str(error))
        return whole, broken

    def find(self, key: dict[str, Any]) -> Cell | None:
        """The cell of this key, if it has been begun."""
        cell = Cell(self.path / fingerprint(key))
        return cell if (cell.path / "cell.json").exists() else None

    def cell(self, key: dict[str, Any], about: dict[str, Any], run: dict[str, Any]) -> Cell:
        """The cell of this key, begun with this `run` if it is new; the one who begins it freezes the run."""
        path = self.path / fingerprint(key)
        document = {"key": key, "about": about, "run": run}
        make_folder(path)
        try:
            temporary = path / f".{uuid.uuid4().hex}"
            temporary.write_text(json.dumps(document, indent=1, sort_keys=True, default=str) + "\n")
            try:
                os.link(temporary, path / "cell.json")  # of two beginners the first wins
            except FileExistsError:
                pass
            except OSError:  # a file system without hard links
                if not (path / "cell.json").exists():
                    temporary.replace(path / "cell.json")
            finally:
                temporary.unlink(missing_ok=True)
        except OSError as error:
            raise UserError(f"the results folder {self.path.parent} cannot be written: {error.strerror}") from None
        return Cell(path)


def windows(ids: range) -> Iterator[range]:
    """The examples, `WINDOW` at a time: the same ones together whatever the range."""
    for start in range(ids.start - ids.start % WINDOW, ids.stop, WINDOW):
        yield range(max(start, ids.start), min(start + WINDOW, ids.stop))


def finished(table: pa.Table) -> np.ndarray:
    """Which rows [N] tell something of the attack."""
    told: np.ndarray = ~np.isin(table["status"].to_numpy(), UNFINISHED)
    return told


def radius(eps: float | str) -> str:
    """As people write it, whoever wrote it how: a short decimal, else so many of 255 levels, else six digits."""
    try:
        value = float(Fraction(eps))
    except (ValueError, ZeroDivisionError):  # of a ledger that someone else wrote
        return str(eps)
    short, levels = f"{value:.3g}", round(value * 255)
    if abs(float(short) - value) <= SAME:
        return short
    return f"{levels}/255" if levels and abs(levels / 255 - value) <= SAME else f"{value:.6g}"


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def newest(cells: Iterable[Cell]) -> list[Cell]:
    return sorted(cells, key=lambda cell: cell.run["started"], reverse=True)


def _is_diagnosis(found: Any) -> bool:
    counts = {"probed", "zero", "nonfinite", "saturated", "extreme", "standing"}
    return isinstance(found, dict) and counts <= set(found) and {"eps", "twice", "extreme"} <= set(found["standing"])


class _Vanished(Exception):  # noqa: N818
    """A part is there no more."""


def _merged(parts: Sequence[Path], ids: range | None) -> pa.Table:
    """See `Cell.table`."""
    tables = [_read(part, ids) for part in parts]
    whole = pa.concat_tables(tables) if tables else ROW.empty_table()
    if (np.diff(whole["example"].to_numpy()) > 0).all():
        return whole
    frame = whole.to_pandas(types_mapper=_nullable)
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
        with pq.ParquetFile(path) as file:
            yield file
    except FileNotFoundError:
        raise _Vanished from None
    except (pa.ArrowInvalid, OSError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"a part of {path.parent} cannot be read ({reason}); remove it and run again") from None


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


def _check_columns(part: pq.ParquetFile) -> None:
    needed = {field.name for field in ROW if not field.nullable}
    if lacking := needed - set(part.schema_arrow.names):
        raise pa.ArrowInvalid(f"it lacks {', '.join(sorted(lacking))}")


def _nullable(kind: pa.DataType) -> Any:
    """Pandas types that know a missing value from false and from NaN."""
    return {
        pa.bool_(): pd.BooleanDtype(),
        pa.int32(): pd.Int32Dtype(),
        pa.int64(): pd.Int64Dtype(),
        pa.string(): pd.StringDtype(),
    }.get(kind)
