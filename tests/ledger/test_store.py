import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from robench.ledger.cell import Cell
from robench.ledger.schema import ROW
from robench.ledger.store import Ledger
from robench.utils.errors import UserError

KEY = {"attack": "pgd", "eps": "8/255"}


def rows(ids: Sequence[int], status: str = "ok", margin: float = 0.5) -> pa.Table:
    columns: dict[str, list[Any]] = {field.name: [None if field.nullable else 0] * len(ids) for field in ROW}
    columns |= {"example": list(ids), "status": [status] * len(ids), "margin": [margin] * len(ids)}
    columns["fooled"] = [None if status == "error" else True] * len(ids)
    return pa.table(columns, schema=ROW)


def cell(results: Path) -> Cell:
    return Ledger(results).cell(KEY, {"attack": "pgd-20"}, {"started": "2026-01-01", "batch_size": 64})


def test_rows_come_back_in_order_of_example(tmp_path: Path) -> None:
    one = cell(tmp_path)
    one.append(rows([5, 3]))
    one.append(rows([4]))
    assert one.rows()["example"].tolist() == [3, 4, 5]
    assert one.present() == {3, 4, 5}
    assert one.rows()["first_step"].isna().all()  # null, not NaN made into a number


def test_a_repeated_row_counts_once_and_an_error_gives_way(tmp_path: Path) -> None:
    one = cell(tmp_path)
    one.append(rows([1, 2], status="error"))
    assert one.present() == set()
    one.append(rows([2, 3]))
    one.append(rows([3]))
    frame = one.rows()
    assert frame["example"].tolist() == [1, 2, 3]
    assert frame["status"].tolist() == ["error", "ok", "ok"]
    assert one.present() == {2, 3}
    for _ in range(3):
        one.append(rows([1], status="skipped"))
        assert one.rows()["status"].tolist() == ["error", "ok", "ok"]


def test_compaction_keeps_every_row_in_one_part(tmp_path: Path) -> None:
    one = cell(tmp_path)
    for example in range(6):
        one.append(rows([example]))
    before = one.rows()
    one.compact()
    assert len(list(one.path.glob("part-*"))) == 1
    assert one.rows().equals(before)


def test_the_run_is_frozen_by_who_begins_the_cell(tmp_path: Path) -> None:
    cell(tmp_path)
    again = Ledger(tmp_path).cell(KEY, {}, {"started": "2027-01-01", "batch_size": 7})
    assert again.run == {"started": "2026-01-01", "batch_size": 64}
    assert json.loads((again.path / "cell.json").read_text())["key"] == KEY


def test_another_key_is_another_cell(tmp_path: Path) -> None:
    other = Ledger(tmp_path).cell({**KEY, "eps": "4/255"}, {}, {})
    assert other.path != cell(tmp_path).path
    assert Ledger(tmp_path).find(KEY) is not None
    assert Ledger(tmp_path).find({"no": "such"}) is None


def test_the_writer_flushes_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = cell(tmp_path)
    with one.writer() as write:
        write(rows([0]))
        assert one.present() == set()
        monkeypatch.setattr("robench.ledger.cell.FLUSH_SECONDS", 0.0)
        write(rows([1]))
        assert one.present() == {0, 1}


def test_the_writer_flushes_when_the_run_is_interrupted(tmp_path: Path) -> None:
    one = cell(tmp_path)

    def interrupted() -> None:
        with one.writer() as write:
            write(rows([1]))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert one.present() == {1}


def test_half_a_part_is_never_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = cell(tmp_path)

    def dies(table: pa.Table, path: Path, **options: object) -> None:
        path.write_bytes(b"PAR1 half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("robench.ledger.parts.pq.write_table", dies)
    with pytest.raises(UserError, match="No space left on device"):
        one.append(rows([1]))
    assert one.rows().empty
    assert list(one.path.iterdir()) == [one.path / "cell.json"]


def test_a_damaged_part_is_named(tmp_path: Path) -> None:
    one = cell(tmp_path)
    (one.path / "part-0.parquet").write_bytes(b"not parquet")
    with pytest.raises(UserError, match="cannot be read"):
        one.rows()


def test_a_damaged_description_is_named(tmp_path: Path) -> None:
    one = cell(tmp_path)
    (one.path / "cell.json").write_text("{")
    with pytest.raises(UserError, match="remove the folder"):
        _ = Ledger(tmp_path).cells()[0].key


def test_runs_over_one_folder_do_not_lose_each_others_rows(tmp_path: Path) -> None:
    ids = np.arange(400)

    def worker(share: int) -> None:
        mine = cell(tmp_path)
        for block in np.split(ids[share::4], 10):
            mine.append(rows(block.tolist()))
            mine.compact()
            assert set(block.tolist()) <= mine.present()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(worker, range(4)))
    assert cell(tmp_path).rows()["example"].tolist() == ids.tolist()


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "results").write_text("a file")
    with pytest.raises(UserError, match="cannot be written"):
        cell(tmp_path / "results")
