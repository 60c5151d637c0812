"""Ledgers written by hand: eight examples, of which a model gets the last wrong."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import pyarrow as pa

from robench.ledger.cell import Cell
from robench.ledger.schema import ROW
from robench.ledger.store import Ledger

CLEAN = [True, True, True, True, True, True, True, False]
"""whether the model is right, example by example"""


def write(
    results: Path,
    attack: str,
    fooled: Sequence[bool | None],
    *,
    model: str = "m",
    weights: str = "",
    started: str = "2026-01-01",
    backwards: int = 5,
    queries: int = 0,
    status: str = "ok",
    unfinished: str = "error",
    settings: dict[str, Any] | None = None,
    **about: Any,
) -> Cell:
    names: dict[str, Any] = {"model": model, "defense": None, "recipe": None, "arch": "lenet", "train_seed": None}
    names |= {"attack": attack, "access": "gradients" if backwards else "labels", "classes": 10}
    names |= {"trained_on": None, "dataset": "toy", "norm": "linf", "eps": "0.1", **about}
    configured = {"function": attack, "started": started, "settings": settings or {}}
    key = {
        "model": weights or model,
        "dataset": names["dataset"],
        "threat": [names["norm"], float(Fraction(names["eps"]))],
        "attack": configured,
    }
    cell = Ledger(results).cell(key, names, {"started": started})
    n = len(fooled)
    columns: dict[str, Any] = {field.name: [None if field.nullable else 0] * n for field in ROW}
    columns |= {
        "example": range(n),
        "clean_prediction": [0 if (CLEAN * n)[i] else 1 for i in range(n)],
        "fooled": fooled,
        "backwards": [backwards] * n,
        "queries": [queries] * n,
        "status": [unfinished if value is None else status for value in fooled],
    }
    cell.append(pa.table({name: list(values) for name, values in columns.items()}, schema=ROW))
    return cell


def clean(results: Path, **options: Any) -> Cell:
    return write(results, "clean", [not right for right in CLEAN], backwards=0, **options)


def fooled(*examples: int) -> list[bool]:
    """These, and the example that is wrong when clean."""
    return [i in examples or not CLEAN[i] for i in range(8)]
