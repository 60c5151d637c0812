"""Ledgers of any size, made up: models of ten defenses under the attacks given, with their clean cells."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from robench.ledger.schema import CLEAN, ROW
from robench.ledger.store import Ledger

DEFENSES = (
    *("standard", "pgd_at", "trades", "ald_pgd", "ald_trades"),
    *("adt_exp", "adt_exp_am", "adt_imp_am", "atld", "awp"),
)
BLACK_BOX = ("square", "rays", "spsa-256")


def write(results: Path, models: int, attacks: Sequence[str], examples: int) -> None:
    """Writes models x (1 + attacks) cells of so many examples into a results folder."""
    rng = np.random.default_rng(0)
    ledger = Ledger(results)
    for place in range(models):
        label = rng.integers(0, 10, examples)
        wrong = rng.random(examples) < 0.1
        prediction = np.where(wrong, (label + 1) % 10, label)
        for attack in (CLEAN, *attacks):
            fooled = wrong if attack == CLEAN else wrong | (rng.random(examples) < 0.4)
            key = {
                "model": place,
                "dataset": "cifar10",
                "threat": ["linf", 8 / 255],
                "attack": {"function": attack, "settings": {}},
            }
            run = {"started": f"2026-01-{place % 28 + 1:02d}", "command": "robench bench", "versions": {}}
            ledger.cell(key, _about(place, attack), run).append(_rows(label, prediction, fooled))


def _about(place: int, attack: str) -> dict[str, Any]:
    defense, seed = DEFENSES[place % len(DEFENSES)], place // len(DEFENSES)
    return {
        "model": f"cifar10-{defense}-s{seed}",
        "arch": "resnet18",
        "defense": defense,
        "recipe": {"name": defense, "settings": {}, "setup": {"arch": "resnet18", "epochs": 100}, "limit": None},
        "train_seed": seed,
        "trained_on": "cifar10",
        "dataset": "cifar10 (test)",
        "norm": "linf",
        "eps": "8/255",
        "attack": attack,
        "classes": 10,
        "access": "scores" if attack in BLACK_BOX else "gradients",
    }


def _rows(label: np.ndarray, prediction: np.ndarray, fooled: np.ndarray) -> pa.Table:
    n = len(label)
    columns = {
        "example": np.arange(n),
        "label": label,
        "fooled": fooled,
        "seed": np.zeros(n),
        "clean_prediction": prediction,
        "seconds": np.full(n, 0.01),
        **{name: np.full(n, 20) for name in ("forwards", "backwards", "queries", "first_step")},
        "status": np.full(n, "ok", dtype=object),
    }
    arrays = [
        pa.array(columns[field.name], field.type) if field.name in columns else pa.nulls(n, field.type) for field in ROW
    ]
    return pa.table(arrays, schema=ROW)
