"""A training's measurements on disk: a CSV that gains a row with each epoch, for plots."""

import csv
from collections.abc import Mapping
from pathlib import Path

from robench.utils.files import replacing


def append(path: Path, row: Mapping[str, float]) -> None:
    """Adds an epoch's row, in place of those of this epoch and later that an interrupted training left."""
    rows: list[Mapping[str, object]] = [old for old in read(path) if old["epoch"] < row["epoch"]]
    rows.append(row)
    names = list(dict.fromkeys(name for each in rows for name in each))
    with replacing(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def read(path: Path) -> list[dict[str, float]]:
    """The rows so far; none where there is no file."""
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        return [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(file)]
