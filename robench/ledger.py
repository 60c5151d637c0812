"""Per-example outcomes on disk. One cell is one attack on one model; its rows are examples.

A cell is a folder named by the fingerprint of everything that could change its numbers (`cell.json` holds it in
words), with its rows in Parquet parts. A part is written under a temporary name and renamed, never changed; so a killed
run leaves whole parts, and two runs over one folder can only repeat each other's rows.
"""

import json
import os
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from robench.atomic import make_folder, replacing
from robench.errors import UserError
from robench.fingerprints import fingerprint

FLUSH_SECONDS = 20.0
"""A killed run loses at most the rows of this long."""

CLEAN = "clean"
"""The cell that holds a model's predictions on the unattacked images."""

DIAGNOSIS = "diagnosis"
"""The cell that holds, in place of rows, what was found about a model's gradients."""

UNFINISHED = ("error", "skipped")
"""The states of a row that tell nothing of the attack."""

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

    def table(self) -> pa.Table:
        """One row an example, in order of example; where there are several, a finished one counts, else an error."""
        tables = [table for _, table in self._tables()]
        whole = pa.concat_tables(tables) if tables else ROW.empty_table()
        examples = whole["example"].to_numpy()
        if (np.diff(examples) > 0).all():
            return whole
        frame = whole.to_pandas(types_mapper=_nullable)
        rank = frame["status"].map({status: place for place, status in enumerate(UNFINISHED, 1)}).fillna(0)
        frame = frame.assign(rank=rank).sort_values(["example", "rank"], kind="stable")
        frame = frame.drop_duplicates("example").drop(columns="rank")
        return pa.Table.from_pandas(frame, schema=ROW, preserve_index=False)

    def rows(self) -> pd.DataFrame:
        """The table as a frame."""
        frame: pd.DataFrame = self.table().to_pandas(types_mapper=_nullable)
        return frame

    def size(self) -> int:
        """How many examples have a row."""
        parts = sorted(self.path.glob("part-*.parquet"))
        if len(parts) == 1:
            with suppress(OSError, pa.ArrowInvalid), pq.ParquetFile(parts[0]) as part:
                _check_columns(part)
                return int(part.metadata.num_rows)
        return len(self.table())

    def present(self) -> set[int]:
        """The examples that need not be run again."""
        table = self.table()
        finished = ~np.isin(table["status"].to_numpy(), UNFINISHED)
        return set(table["example"].to_numpy()[finished].tolist())

    def append(self, rows: pa.Table) -> None:
        """Adds rows of the schema `ROW`."""
        final = self.path / f"part-{uuid.uuid4().hex}.parquet"
        with replacing(final) as temporary:
            pq.write_table(rows, temporary, compression="zstd")

    def keep_images(self, ids: np.ndarray, x_adv: np.ndarray) -> None:
        """Adds adversarial examples [B, ...]."""
        with replacing(self.path / f"images-{uuid.uuid4().hex}.npz") as temporary, temporary.open("wb") as file:
            np.savez(file, ids=ids, x_adv=x_adv)

    def images(self) -> dict[int, np.ndarray]:
        """The adversarial examples that were kept, by their rows in the data set."""
        kept: dict[int, np.ndarray] = {}
        for path in sorted(self.path.glob("images-*.npz")):
            with np.load(path, allow_pickle=False) as archive:
                kept.update(zip(archive["ids"].tolist(), archive["x_adv"], strict=True))
        return kept

    def compact(self) -> None:
        """Puts the parts into one; whoever reads meanwhile finds every row in the old parts, the new one, or both."""
        parts = self._tables()
        if len(parts) > 1:
            self.append(self.table())
            for part, _ in parts:
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

    def _tables(self) -> list[tuple[Path, pa.Table]]:
        for _ in range(20):  # a part may be compacted away between the listing and the reading
            parts = sorted(self.path.glob("part-*.parquet"))
            try:
                return [(part, _read(part)) for part in parts]
            except FileNotFoundError:
                continue
            except (pa.ArrowInvalid, OSError) as error:
                reason = str(error).splitlines()[0]
                raise UserError(f"a part of {self.path} cannot be read ({reason}); remove it and run again") from None
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


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def newest(cells: Iterable[Cell]) -> list[Cell]:
    return sorted(cells, key=lambda cell: cell.run["started"], reverse=True)


def _is_diagnosis(found: Any) -> bool:
    counts = {"probed", "zero", "nonfinite", "saturated", "extreme", "standing"}
    return isinstance(found, dict) and counts <= set(found) and {"eps", "twice", "extreme"} <= set(found["standing"])


def _read(part: Path) -> pa.Table:
    """A part's rows; columns that its version of robench did not know are null."""
    with pq.ParquetFile(part) as file:
        if file.schema_arrow.equals(ROW):
            return file.read(use_threads=False)
        _check_columns(file)
    return pq.read_table(part, schema=ROW, partitioning=None)


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
