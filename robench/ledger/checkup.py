"""Whether all of a results folder can be read, and what to remove where it cannot."""

from collections.abc import Iterator
from pathlib import Path

from robench.ledger.cell import Cell
from robench.ledger.measurements import Measurements
from robench.ledger.store import Ledger


def damage(results: Path | str) -> Iterator[str]:
    """A sentence for everything that is wrong with the files of the ledger and the measurements, once all of them have
    been read."""
    for folder in _folders(Ledger(results).path):
        if (folder / "cell.json").exists():
            yield from Cell(folder).damage()
        elif any(folder.glob("part-*")):
            yield f"{folder} has rows and no cell.json that tells of what; remove the folder"
    yield from Measurements(results).readable("*")[1]


def count(results: Path | str) -> int:
    """How many cells the ledger has."""
    return len(Ledger(results).cells())


def _folders(ledger: Path) -> list[Path]:
    return sorted(path for path in ledger.glob("*") if path.is_dir())
