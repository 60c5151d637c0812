"""The index of a ledger: it spares readings and never tells anything else than the cells do."""

import os
import random
import re
import shutil
import time
from contextlib import suppress
from functools import partial
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from benchmarks.speed import ledgers
from robench.ledger.cell import Cell
from robench.ledger.index import Index
from robench.ledger.per_example import whole
from robench.ledger.store import Ledger
from robench.reports import ranking
from robench.reports.evaluations import LedgerWarning
from robench.utils.errors import UserError
from tests.ledgers import clean, fooled, write

SETTLED = -60.0
"""Files count as left alone for long."""


def told(results: Path, settled: float = SETTLED) -> list[object]:
    """All that an index tells of a ledger with the models a, b, ..., each with its clean cell."""
    index = Index(Ledger(results), settled)
    cells, broken = index.readable()
    models: dict[str, dict[str, Cell]] = {}
    for cell in cells:
        models.setdefault(cell.about["model"], {})[cell.about["attack"]] = cell
    groups = [dict(sorted(group.items())) for _, group in sorted(models.items()) if "clean" in group]
    found = [index.findings(group, partial(whole, group)) for group in groups]
    index.save()
    return [sorted((cell.path.name, cell.key, cell.about, cell.run, cell.size()) for cell in cells), broken, found]


def fresh(results: Path) -> list[object]:
    """The same without an index, and without leaving one."""
    kept = results / "ledger" / ".index"
    aside = kept.read_bytes() if kept.exists() else None
    kept.unlink(missing_ok=True)
    found = told(results)
    kept.unlink(missing_ok=True)
    if aside is not None:
        kept.write_bytes(aside)
    return found


def opened(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The Parquet files that are opened from now on."""
    found: list[Path] = []

    class Noted(pq.ParquetFile):  # type: ignore[misc]
        def __init__(self, path: Path) -> None:
            found.append(Path(path))
            super().__init__(path)

    monkeypatch.setattr(pq, "ParquetFile", Noted)
    return found


def test_a_ledger_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledgers.write(tmp_path, 3, ("fgsm", "square"), 20)
    first = told(tmp_path)
    read = opened(monkeypatch)
    assert told(tmp_path) == first
    assert read == []
    cell = Ledger(tmp_path).cells()[0]
    cell.append(cell.table().slice(0, 1))
    read.clear()
    told(tmp_path)
    again = {path.parent for path in read}
    assert cell.path in again
    assert len(again) == 3  # with the other cells of its model


def test_what_was_just_written_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clean(tmp_path)
    told(tmp_path, settled=1000.0)
    read = opened(monkeypatch)
    told(tmp_path, settled=1000.0)
    assert len(read) > 0


@pytest.mark.parametrize("seed", range(2))
def test_whatever_is_changed_the_index_tells_what_the_cells_tell(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    for step in range(12):
        model = chance.choice("abc")
        kind = chance.choice(("add", "edit", "tamper", "remove", "damage", "found"))
        cells = Ledger(tmp_path).cells()
        if kind == "add" or not cells:
            clean(tmp_path, model=model)
            write(tmp_path, chance.choice(("pgd", "fgsm")), fooled(*range(chance.randrange(7))), model=model)
        elif kind == "edit":
            with suppress(UserError):  # of a damaged cell
                chance.choice(cells).append(chance.choice(cells).table().slice(0, chance.randrange(1, 8)))
        elif kind == "tamper":  # of the same length, at the same time
            path = chance.choice(cells).path / "cell.json"
            before = path.stat()
            path.write_text(path.read_text().replace('"2026-01-01"', f'"2026-01-0{step % 9 + 1}"'))
            os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        elif kind == "remove":
            shutil.rmtree(chance.choice(cells).path)
        elif kind == "damage":
            parts = sorted(tmp_path.glob("ledger/*/part-*"))
            if parts:
                part = chance.choice(parts)
                part.write_bytes(part.read_bytes()[:-20])
        else:
            chance.choice(cells).record({"made": step})
        try:
            expected = fresh(tmp_path)
        except UserError as error:
            with pytest.raises(UserError, match=re.escape(str(error))):
                told(tmp_path)
            continue
        assert told(tmp_path) == expected, (step, kind)


@pytest.mark.parametrize("harm", [b"", b"{", b"\x00\xff" * 99, b'0\n{"code":1}', None])
def test_a_damaged_index_is_made_again(tmp_path: Path, harm: bytes | None) -> None:
    ledgers.write(tmp_path, 1, ("fgsm",), 20)
    expected, path = told(tmp_path), tmp_path / "ledger" / ".index"
    written = path.read_bytes()
    path.write_bytes(written.replace(b'"value"', b'"valve"').replace(b"0.", b"1.") if harm is None else harm)
    assert told(tmp_path) == expected
    assert path.read_bytes() == written


def test_a_ledger_that_cannot_be_written_is_read(tmp_path: Path) -> None:
    ledgers.write(tmp_path, 1, ("fgsm",), 20)
    expected = fresh(tmp_path)
    (tmp_path / "ledger" / ".index").mkdir()
    assert told(tmp_path) == expected


def test_a_leaderboard_is_the_same_from_the_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledgers.write(tmp_path, 4, ("fgsm", "pgd-20"), 30)
    later = time.time() + 60
    expected = ranking.leaderboard(tmp_path)
    monkeypatch.setattr(time, "time", lambda: later)
    for _ in range(2):
        assert ranking.to_csv(ranking.leaderboard(tmp_path)) == ranking.to_csv(expected)
    read = opened(monkeypatch)
    assert ranking.to_csv(ranking.leaderboard(tmp_path)) == ranking.to_csv(expected)
    assert read == []
    part = next(tmp_path.glob("ledger/*/part-*"))
    part.write_bytes(part.read_bytes()[:-9])
    with pytest.warns(LedgerWarning):
        ranking.leaderboard(tmp_path)
