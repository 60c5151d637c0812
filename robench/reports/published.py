"""The numbers that papers print, from benchmarks/papers/ID.csv."""

import csv
from dataclasses import dataclass
from pathlib import Path

from robench.utils import registry
from robench.utils.errors import UserError

COLUMNS = ("table", "dataset", "norm", "eps", "model", "attack", "metric", "unit", "value", "note")
UNITS = {"percent": 0.01, "fraction": 1.0}


@dataclass(frozen=True)
class Published:
    """A number as it is printed: `model` and `attack` are what stands before its line and above its column."""

    table: str
    dataset: str
    norm: str
    eps: str
    model: str
    attack: str
    metric: str
    unit: str
    value: str
    note: str

    @property
    def fraction(self) -> float:
        """An accuracy in [0, 1]."""
        if self.unit not in UNITS:
            raise UserError(f"{self.table}: {self.model} under {self.attack} is no accuracy but a {self.unit}")
        return float(self.value) * UNITS[self.unit]


def published(id: str) -> list[Published]:
    """What is printed in a table, or said of a figure; nothing where no number is."""
    path = folder() / f"{id}.csv"
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        reader = csv.DictReader(file)
        if tuple(reader.fieldnames or ()) != COLUMNS:
            raise UserError(
                f"{path}: expected the columns {','.join(COLUMNS)}, got {','.join(reader.fieldnames or ())}"
            )
        return [Published(**row) for row in reader]


def folder() -> Path:
    return registry.folder("benchmarks") / "papers"
