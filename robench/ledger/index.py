"""What was read of a ledger, kept in a file beside its cells so that each is read once.

An entry counts as long as the files that it was read from are the same, by name, size and the times of their last
changes, and as long as the code is that read them; anything else is read from the cells again, as is an index that is
damaged or was never written. It holds no number that the cells do not give.
"""

import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache
from hashlib import sha256
from pathlib import Path

from pydantic import ConfigDict, TypeAdapter, with_config

import robench
from robench.ledger.cell import Cell, Known
from robench.ledger.findings import Findings
from robench.ledger.per_example import Tally
from robench.ledger.store import Ledger
from robench.utils.errors import UserError
from robench.utils.files import replacing

SETTLED = 2.0
"""Seconds after which a file's times tell another change from the last: the coarsest clock of a file system."""


@dataclass(frozen=True)
class _Indexed:
    """A cell whose files had this stamp."""

    stamp: str
    known: Known


@dataclass(frozen=True)
class _Told:
    """What was found in cells, whose files had these stamps, by the names of their folders."""

    stamps: Mapping[str, str]
    findings: Findings


@with_config(ConfigDict(ser_json_inf_nan="constants"))
@dataclass(frozen=True)
class _Contents:
    """All of an index; `told` by the folder of the clean cell."""

    code: str
    cells: dict[str, _Indexed]
    told: dict[str, _Told]


class Index:
    """A ledger, read through its index. `settled`: seconds that a file must have been left alone for."""

    def __init__(self, ledger: Ledger, settled: float = SETTLED) -> None:
        self._ledger, self._settled, self._path = ledger, settled, ledger.path / ".index"
        self._before = _read(self._path)
        self._now = _Contents(_code(), {}, {})
        self._stamps: dict[str, str] = {}

    def readable(self) -> tuple[list[Cell], list[str]]:
        """The cells that can be read, and of each other one a sentence that says what is wrong with it."""
        whole, broken = [], []
        for cell in self._ledger.cells():
            try:
                whole.append(self._known(cell))
            except UserError as error:
                broken.append(str(error))
        return whole, broken

    def findings(self, cells: Mapping[str, Cell], rows: Callable[[], Mapping[str, Tally]]) -> Findings:
        """As `Findings.of` cells of `readable`, whose rows are asked for where they are not known."""
        folders = sorted(cell.path.name for cell in cells.values())
        stamps = {folder: self._stamps[folder] for folder in folders if folder in self._stamps}
        whole = len(stamps) == len(folders)
        key = " ".join(folders)
        told = self._before.told.get(key)
        if not (whole and told and told.stamps == stamps):
            told = _Told(stamps, Findings.of(cells, rows))
            whole = whole and all(_stamp(cell.path, self._settled) == stamps[cell.path.name] for cell in cells.values())
        if whole:
            self._now.told[key] = told
        summary = replace(told.findings.summary, ledger=[str(cell.path) for cell in cells.values()])
        return replace(told.findings, summary=summary)

    def save(self) -> None:
        """Writes what is known now; nothing where that is what was known, or where nothing can be written."""
        current = {
            key: told
            for key, told in self._before.told.items()
            if all(self._stamps.get(folder) == stamp for folder, stamp in told.stamps.items())
        }
        now = replace(self._now, told={**current, **self._now.told})
        if now != self._before and self._ledger.path.is_dir():
            with suppress(UserError), replacing(self._path) as temporary:
                body = _FORM.dump_json(now)
                temporary.write_bytes(_digest(body) + b"\n" + body)

    def _known(self, cell: Cell) -> Cell:
        """The cell with what is known of it."""
        stamp, folder = _stamp(cell.path, self._settled), cell.path.name
        entry = self._before.cells.get(folder)
        if not (entry and stamp and entry.stamp == stamp):
            entry = _Indexed(stamp, cell.known())
            stamp = stamp if _stamp(cell.path, self._settled) == stamp else ""
        if stamp:
            self._now.cells[folder], self._stamps[folder] = entry, stamp
        return replace(cell, read=entry.known)


_FORM = TypeAdapter(_Contents)


def _read(path: Path) -> _Contents:
    """Nothing where there is none of this code, or it is damaged."""
    with suppress(OSError, ValueError):
        digest, _, body = path.read_bytes().partition(b"\n")
        if digest == _digest(body) and (contents := _FORM.validate_json(body)).code == _code():
            return contents
    return _Contents("", {}, {})


def _digest(body: bytes) -> bytes:
    return sha256(body).hexdigest().encode()


def _stamp(folder: Path, settled: float) -> str:
    """A hash of what tells the files of a cell from what they were; empty where one of them may change unseen."""
    files = []
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.endswith((".json", ".parquet")) and not entry.name.startswith("."):
                status = entry.stat()
                if max(status.st_mtime, status.st_ctime) > time.time() - settled:
                    return ""
                files.append((entry.name, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns))
    return sha256(repr(sorted(files)).encode()).hexdigest()[:32] if files else ""


@cache
def _code() -> str:
    """A hash of the code that reads a ledger."""
    package = Path(robench.__file__).parent
    paths = [package / "access.py", *(path for room in ("ledger", "utils") for path in (package / room).glob("*.py"))]
    return sha256(b"".join(path.read_bytes() for path in sorted(paths))).hexdigest()[:32]
