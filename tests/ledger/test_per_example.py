"""Counts of condensed rows are those of all rows."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from robench.ledger import parts, schema
from robench.ledger.cell import Cell
from robench.ledger.per_example import condensed, tally
from robench.ledger.schema import CLEAN
from robench.ledger.summary import summarise, summarise_tallies
from tests import ledgers
from tests.evaluation.cases import content

STATES = ("ok", "ok", "ok", "invalid", "unstable", "error", "skipped")


@pytest.mark.parametrize("seed", range(6))
def test_what_fared_alike_is_counted_as_each_by_itself(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The summary of condensed rows, window by window, is that of all rows."""
    monkeypatch.setattr(parts, "WINDOW", 50)
    rng = np.random.default_rng(seed)
    n, wrong = 230, rng.random(230) < 0.1
    labels = rng.integers(0, 3, n)
    labels[-1], wrong[-1] = labels[0], wrong[0]  # the last, which costs most, fares as the first
    states = STATES if seed % 2 else STATES[:-1]
    cells = {CLEAN: cell(tmp_path, CLEAN, labels, wrong, wrong, np.full(n, "ok", dtype=object), rng)}
    for name in ("one", "two", "three"):
        status = np.where(wrong, "ok", rng.choice(states, n)).astype(object)
        fooled = (wrong | (rng.random(n) < 0.4)).astype(object)
        fooled[np.isin(status, ("error", "skipped"))] = None
        status[-1], fooled[-1] = status[0], fooled[0]
        cells[name] = cell(tmp_path, name, labels, wrong, fooled, status, rng)
    together, whole = summarise(cells), summarise_tallies(cells, tally(cells))
    assert content(together) == content(whole)
    assert sum(each.errors for each in whole.attacks.values()) > 20
    alike, each = condensed(cells, range(n)), tally(cells)
    assert len(alike[CLEAN]) < n
    assert [(t.n, t.max_backwards.max()) for t in alike.values()] == [
        (t.n, t.max_backwards.max()) for t in each.values()
    ]


def cell(
    results: Path, name: str, labels: np.ndarray, wrong: np.ndarray, fooled: Any, status: np.ndarray, rng: Any
) -> Cell:
    n = len(labels)
    made = ledgers.write(results, name, [None] * n)
    for part in made.path.glob("part-*"):
        part.unlink()
    read, backwards = rng.random(n) < 0.5, rng.integers(0, 9, n)
    read[-1], backwards[-1] = read[0], 99
    columns: dict[str, Any] = {field.name: [None if field.nullable else 0] * n for field in schema.ROW}
    columns |= {
        "example": np.arange(n),
        "label": labels,
        "clean_prediction": np.where(wrong, (labels + 1) % 3, labels),
        "fooled": fooled,
        "fooled_final": [value if read else None for value, read in zip(fooled, read, strict=True)],
        "forwards": rng.integers(0, 9, n),
        "backwards": backwards,
        "queries": rng.integers(0, 9, n),
        "share_right": rng.integers(0, 21, n) / 20,
        "status": status,
        "message": [f"failed on {i}" if each == "error" else None for i, each in enumerate(status)],
    }
    made.append(pa.table({key: list(values) for key, values in columns.items()}, schema=schema.ROW))
    return made
