"""Damage to a ledger: whatever bit is lost, it is found, named, and costs nothing else."""

import json
import random
import re
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from robench.ledger.cell import Cell
from robench.ledger.checkup import damage
from robench.ledger.measurements import Measurement, Measurements
from robench.ledger.schema import DIAGNOSIS
from robench.ledger.store import Ledger
from robench.reports import ranking
from robench.reports.evaluations import LedgerWarning
from robench.utils.errors import UserError
from tests.helpers import Ran
from tests.ledgers import clean, fooled, write

Run = Callable[..., Ran]


def flip(path: Path, bit: int) -> None:
    content = bytearray(path.read_bytes())
    content[bit // 8 % len(content)] ^= 1 << bit % 8
    path.write_bytes(content)


def part_of(cell: Cell) -> Path:
    (part,) = cell.path.glob("part-*")
    return part


@pytest.fixture
def attacked(tmp_path: Path) -> tuple[Path, dict[str, Cell]]:
    names = {"pgd": fooled(0), "fgsm": fooled(1), "cw": fooled(2)}
    return tmp_path, {"clean": clean(tmp_path), **{name: write(tmp_path, name, each) for name, each in names.items()}}


def test_whatever_bit_of_a_part_is_lost_it_is_found(attacked: tuple[Path, dict[str, Cell]]) -> None:
    _, cells = attacked
    part, size = part_of(cells["fgsm"]), part_of(cells["fgsm"]).stat().st_size
    for bit in random.Random(0).sample(range(8 * size), 100):
        flip(part, bit)
        with pytest.raises(UserError, match=rf"{part} cannot be read .*remove it and run again"):
            cells["fgsm"].table()
        flip(part, bit)
    assert len(cells["fgsm"].table()) == 8


def test_a_part_that_is_damaged_costs_the_other_attacks_nothing(
    attacked: tuple[Path, dict[str, Cell]], robench: Run
) -> None:
    results, cells = attacked
    flip(part_of(cells["fgsm"]), 900)
    with pytest.warns(LedgerWarning, match=str(part_of(cells["fgsm"]))):
        frame = ranking.leaderboard(results)
    assert "fgsm" not in frame
    assert (frame["pgd"].tolist(), frame["worst_case"].tolist()) == ([6 / 8], [5 / 8])


def test_damage_that_an_older_version_could_not_see_costs_only_its_attack(
    attacked: tuple[Path, dict[str, Cell]],
) -> None:
    results, cells = attacked
    part = part_of(cells["fgsm"])
    content = bytearray(part.read_bytes())
    content[8:1000] = bytes(992)  # the footer still reads
    part.unlink()
    (cells["fgsm"].path / "part-0.parquet").write_bytes(content)
    with pytest.warns(LedgerWarning, match=r"fgsm on m on toy, linf 0.1 is not counted: .*; pgd, cw still count"):
        frame = ranking.leaderboard(results)
    assert frame["worst_case"].tolist() == [5 / 8]


def test_without_its_clean_predictions_a_model_is_named_with_what_it_costs(
    attacked: tuple[Path, dict[str, Cell]], robench: Run
) -> None:
    results, cells = attacked
    flip(part_of(cells["clean"]), 900)
    with warnings.catch_warnings(action="ignore"):
        ran = robench("leaderboard", "--results", results)
    assert ran.code == 2
    assert f"{part_of(cells['clean']).relative_to(results)} cannot be read" in ran.err
    assert "cw, fgsm, pgd on m on toy, linf 0.1 cannot be counted without its clean predictions" in ran.err
    clean(results, model="other")
    write(results, "pgd", fooled(0), model="other")
    with pytest.warns(LedgerWarning):
        assert ranking.leaderboard(results)["model"].tolist() == ["other"]


def test_rows_and_words_of_before_there_were_checksums_are_read(attacked: tuple[Path, dict[str, Cell]]) -> None:
    results, cells = attacked
    for cell in cells.values():
        part_of(cell).rename(cell.path / "part-00112233445566778899aabbccddeeff.parquet")
        document = json.loads((cell.path / "cell.json").read_text())
        del document["checksum"]
        (cell.path / "cell.json").write_text(json.dumps(document))
    assert list(damage(results)) == []
    assert ranking.leaderboard(results)["worst_case"].tolist() == [4 / 8]


def test_a_word_that_is_changed_is_found(attacked: tuple[Path, dict[str, Cell]]) -> None:
    _, cells = attacked
    path = cells["pgd"].path / "cell.json"
    path.write_text(path.read_text().replace('"eps": "0.1"', '"eps": "0.3"'))
    with pytest.raises(UserError, match=r"not as it was written.*remove the folder"):
        _ = Cell(path.parent).about


def test_the_doctor_names_everything_that_is_damaged(tmp_path: Path, robench: Run) -> None:
    cells = [clean(tmp_path), *(write(tmp_path, name, fooled(0)) for name in ("pgd", "cw", "mim"))]
    found = write(tmp_path, DIAGNOSIS, [])
    found.record({"failed": "of 3"})
    cells[3].keep_images(np.arange(2), np.zeros((2, 3)))
    measurements = Measurements(tmp_path)
    measurements.record(Measurement("spread", {"a": 1}, {"dataset": "toy"}, {"x": 1.25}, {"started": "2026"}))
    (picture,) = cells[3].path.glob("images-*.npz")
    (measured,) = measurements.path.glob("*.json")
    orphan = Ledger(tmp_path).path / "orphan"
    orphan.mkdir()
    pq.write_table(cells[0].table(), orphan / "part-0.parquet")
    damaged = [part_of(cells[1]), cells[2].path / "cell.json", found.path / "found.json", picture, measured]
    assert len(list(damage(tmp_path))) == 2  # the diagnosis is none, and the rows have no cell
    flip(damaged[0], 900)
    flip(picture, 8 * 150)
    for path in (damaged[1], damaged[2], measured):
        path.write_text(re.sub(r"(\d)(?=\D*$)", lambda digit: str((int(digit[0]) + 1) % 10), path.read_text(), count=1))
    ran = robench("doctor", "--results", tmp_path, "--data-root", tmp_path)
    lines = [line for line in ran.out.splitlines() if line.startswith("LACK ledger")]
    for path in [*damaged, orphan]:
        assert [line for line in lines if str(path) in line and "remove" in line], path
    assert len(lines) == len(damaged) + 1


def test_the_doctor_says_that_all_is_well(attacked: tuple[Path, dict[str, Cell]], robench: Run) -> None:
    ran = robench("doctor", "--results", attacked[0], "--data-root", attacked[0])
    assert f"ok   ledger: all of 4 cells in {attacked[0]} can be read" in ran.out
