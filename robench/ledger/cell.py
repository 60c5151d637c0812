"""One cell of the ledger: one attack on one model, whose rows are examples.

A cell is a folder named by the fingerprint of everything that could change its numbers (`cell.json` holds it in
words), with its rows in parts (`robench.ledger.parts`).
"""

import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import pandas as pd
import pyarrow as pa

from robench.ledger.parts import Parts, nullable, windows
from robench.ledger.radius import radius
from robench.ledger.schema import DIAGNOSIS, finished
from robench.ledger.sealing import sealed, unsealed
from robench.ledger.wording import wrong
from robench.utils.errors import UserError
from robench.utils.files import replacing
from robench.utils.text import cleaned, cleaned_all

FLUSH_SECONDS = 20.0
"""A killed run loses at most the rows of this long."""


@dataclass(frozen=True)
class Known:
    """What was read of a cell before: the text of its `cell.json`, and how many examples have a row."""

    text: str
    size: int


@dataclass(frozen=True)
class Cell:
    """A folder of the ledger. `key`: what the fingerprint is made of. `about`: names for people. `run`: what was
    frozen when the cell was opened (batch size, threads), with what made it (command, versions, device, date).
    `read`: what need not be read of it."""

    path: Path
    read: Known | None = field(default=None, compare=False, repr=False)

    @cached_property
    def _text(self) -> str:
        return self.read.text if self.read else (self.path / "cell.json").read_text()

    @cached_property
    def _document(self) -> dict[str, dict[str, Any]]:
        path = self.path / "cell.json"
        try:
            document = unsealed(self._text)
            read = {part: dict(document[part]) for part in ("key", "about", "run")}
            if self._text.isascii() and "\\" not in self._text:  # nothing is in it that does not show
                return read
            return {"key": read["key"], **cleaned_all({part: read[part] for part in ("about", "run")})}
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
        return cleaned(f"{norm} {radius(eps)}")

    @property
    def evaluated(self) -> str:
        """For people, what was evaluated: a model on a data set within a threat."""
        return f"{self.about['model']} on {self.about['dataset']}, {self.threat}"

    @property
    def found(self) -> dict[str, Any] | None:
        """The document of a cell without rows, once it is written."""
        path = self.path / "found.json"
        try:
            document = unsealed(path.read_text())
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise UserError(f"{path} cannot be read ({error}); remove it and run again") from None
        return cleaned_all(document)  # type: ignore[no-any-return]

    def check(self) -> int:
        """Raises what keeps its rows from being read, and what it fails to say of itself; gives how many examples have
        a row."""
        if said := wrong(self._document):
            raise UserError(f"{self.path / 'cell.json'} {said}; remove the folder {self.path} and run again")
        if self.about["attack"] == DIAGNOSIS and self.found is not None and not _is_diagnosis(self.found):
            raise UserError(f"{self.path / 'found.json'} holds no diagnosis; remove it and run again")
        return self.size()

    def known(self) -> Known:
        """What `check` read, which raises what it raises."""
        return Known(size=self.check(), text=self._text)

    def record(self, document: dict[str, Any]) -> None:
        """Writes what was found."""
        with replacing(self.path / "found.json") as temporary:
            temporary.write_text(sealed(document))

    def table(self, ids: range | None = None) -> pa.Table:
        """One row an example, in order of example; where there are several, a finished one counts, else an error. Of
        the examples `ids`, where they are given."""
        return self._parts.table(ids)

    def rows(self, ids: range | None = None) -> pd.DataFrame:
        """The table as a frame."""
        frame: pd.DataFrame = self.table(ids).to_pandas(types_mapper=nullable)
        return frame

    def span(self) -> range:
        """A range that holds all its examples."""
        return self._parts.span()

    def size(self) -> int:
        """How many examples have a row."""
        return self.read.size if self.read else self._parts.size()

    def present(self, ids: range | None = None) -> set[int]:
        """The examples, of `ids` where they are given, that need not be run again."""
        table = self.table(ids)
        return set(table["example"].to_numpy()[finished(table)].tolist())

    def lacking(self, ids: range) -> int:
        """How many of these examples are yet to be run."""
        return len(ids) - sum(len(self.present(window)) for window in windows(ids))

    def append(self, rows: pa.Table) -> None:
        """Adds rows of the schema `ROW`."""
        self._parts.append(rows)

    def compact(self) -> None:
        """Puts the parts into one; a reader meanwhile finds every row."""
        self._parts.compact()

    @contextmanager
    def writer(self, flush_seconds: float | None = None) -> Iterator[Callable[[pa.Table], None]]:
        """Gives a function that takes rows; they are on disk after `flush_seconds`, by default `FLUSH_SECONDS`, or when
        the block ends or fails."""
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
            if time.monotonic() - flushed >= (FLUSH_SECONDS if flush_seconds is None else flush_seconds):
                flush()

        try:
            yield add
        finally:
            flush()

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

    def damage(self) -> list[str]:
        """Everything that is wrong with its files, each with what to remove."""
        return list(dict.fromkeys([*self._said_by_check(), *self._parts.damage(), *self._lost_images()]))

    def _said_by_check(self) -> Iterator[str]:
        try:
            self.check()
        except UserError as error:
            yield str(error)

    def _lost_images(self) -> Iterator[str]:
        for path in sorted(self.path.glob("images-*.npz")):
            try:
                with np.load(path, allow_pickle=False) as archive:
                    assert all(len(archive[name]) for name in ("ids", "x_adv"))
            except (OSError, ValueError, KeyError, BadZipFile) as error:
                yield f"{path} cannot be read ({error}); remove it and run again"

    @property
    def _parts(self) -> Parts:
        return Parts(self.path)


def _is_diagnosis(found: Any) -> bool:
    counts = {"probed", "zero", "nonfinite", "saturated", "extreme", "standing"}
    return isinstance(found, dict) and counts <= set(found) and {"eps", "twice", "extreme"} <= set(found["standing"])
