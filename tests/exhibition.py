"""A ledger by hand that has everything the page shows: each verdict, steps, classes, seeds, pictures, hostile names."""

import io
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
from PIL import Image

from robench.ledger.cell import Cell
from robench.ledger.measurements import Measurement, Measurements
from robench.ledger.schema import ROW
from robench.ledger.store import Ledger
from robench.reports.evaluations import evaluation_id

N = 120
"""examples; of class i % 4, and every 40th misclassified when clean"""

HOSTILE = "</script><script>alert(1)</script>\"'><img src=x onerror=alert(2)>&amp;"

RUN = {
    "started": "2026-01-01T00:00:00+00:00",
    "command": "robench bench toy",
    "commit": "c0ffee",
    "dirty": True,
    "device": "cpu x86_64",
    "versions": {"torch": "2"},
    "batch_size": 128,
    "threads": 1,
}

Breaks = Callable[[int], bool]


def mistaken(example: int) -> bool:
    return example % 40 == 39


def cell(
    results: Path,
    attack: str,
    breaks: Breaks = lambda example: False,
    *,
    model: str,
    n: int = N,
    steps: int = 0,
    cost: int = 0,
    gradients: bool = True,
    status: str = "ok",
    **about: Any,
) -> Cell:
    """An attack that breaks these examples, the i-th after i % 7 of its `steps`, at so many passes each."""
    names: dict[str, Any] = {
        "model": model,
        "defense": None,
        "recipe": None,
        "arch": "lenet",
        "train_seed": None,
        "trained_on": None,
    }
    names |= {"attack": attack, "access": "gradients" if gradients else "labels", "classes": 4}
    names |= {"dataset": "toy (test)", "norm": "linf", "eps": "0.1", **about}
    configured: Any = {"function": attack, "settings": {"steps": steps} if steps else {}, "restarts": 1, "seed": 0}
    key = {
        "model": {"weights": model},
        "dataset": names["dataset"],
        "threat": [names["norm"], 0.5 if names["eps"] == HOSTILE else names["eps"]],
        "attack": configured if attack != "clean" else "clean",
    }
    begun = Ledger(results).cell(key, names, RUN)
    wrong = [mistaken(i) for i in range(n)]
    fell = [breaks(i) and not wrong[i] for i in range(n)]
    columns: dict[str, list[Any]] = {field.name: [None if field.nullable else 0] * n for field in ROW}
    columns |= {
        "example": list(range(n)),
        "label": [i % 4 for i in range(n)],
        "clean_prediction": [(i + wrong[i]) % 4 for i in range(n)],
        "fooled": [f or w for f, w in zip(fell, wrong, strict=True)],
        "first_step": [i % 7 if fell[i] and steps else None for i in range(n)],
        "forwards": [0 if w else cost for w in wrong],
        "backwards": [cost if gradients and not w else 0 for w in wrong],
        "queries": [0 if gradients else cost for _ in wrong],
        "status": [status] * n,
    }
    begun.append(pa.table(columns, schema=ROW))
    return begun


def recipe(weight: float) -> dict[str, Any]:
    setup = {"arch": "lenet", "epochs": 3}
    return {"name": "trades", "settings": {"weight": weight}, "setup": setup, "limit": None, "precision": "float32"}


def exhibit(results: Path) -> None:
    """Five models on toy within linf 0.1: `strong` and its second seed `strong-1` (reliable), `weak` and one with a
    hostile name (provisional), `masked` (unreliable); and `strong` within linf 0.2. `strong` has pictures."""
    for seed, name in enumerate(("strong", "strong-1")):
        about: dict[str, Any] = {"model": name, "defense": "trades", "recipe": recipe(6.0), "train_seed": seed}
        about |= {"trained_on": "toy", "trained_threat": "linf 0.1"}
        clean = cell(results, "clean", **about)
        cell(results, "fgsm", lambda i: i % 10 == 0, cost=1, **about)
        cell(results, "pgd-20", _fives(seed), steps=20, cost=20, **about)
        cell(results, "square", lambda i: i % 20 == 1, cost=500, gradients=False, **about)
        diagnosis = cell(results, "diagnosis", n=0, **about)
        standing = {"eps": [True] * 70 + [False] * 28, "twice": [True] * 9 + [False] * 89, "extreme": [False] * 98}
        found = {"probed": 100, "most": 25, "zero": 0, "nonfinite": 1, "saturated": 2}
        diagnosis.record({**found, "standing": standing, "extreme": "linf 0.5"})
        if name == "strong":
            picture(results, clean)
            cell(results, "clean", eps="0.2", **about)
            cell(results, "pgd-20", lambda i: i % 2 == 0, steps=20, cost=20, eps="0.2", **about)
    for name in ("weak", HOSTILE):
        cell(results, "clean", model=name, defense="standard")
        cell(results, "pgd-20", lambda i: i % 3 > 0, steps=20, cost=20, model=name, defense="standard")
    cell(results, "clean", model="masked", defense="quantized")
    cell(results, "pgd-20", lambda i: i % 20 == 0, steps=20, cost=20, model="masked", defense="quantized")
    cell(results, "square", lambda i: i % 2 == 0, cost=500, gradients=False, model="masked", defense="quantized")


def _fives(rest: int) -> Breaks:
    return lambda example: example % 5 == rest or example % 4 == 3


def picture(results: Path, of: Cell) -> Measurement:
    """A gallery of a fallen example, one that stands, and a mistake."""
    file = io.BytesIO()
    Image.new("L", (4, 4), 128).save(file, "PNG")
    png = b64encode(file.getvalue()).decode()
    shown = {"clean": png, "adversarial": png, "perturbation": png, "distance": 0.1}
    examples = [
        {"example": 0, "label": 0, "clean_prediction": 0, "adversarial_prediction": 3, "fooled": True, **shown},
        {"example": 1, "label": 1, "clean_prediction": 1, "adversarial_prediction": 1, "fooled": False, **shown},
        {"example": 39, "label": 3, "clean_prediction": 0, "adversarial_prediction": 0, "fooled": True, **shown},
    ]
    found = {"attack": "pgd-20", "magnified": 5.0, "reduced": 1, "examples": examples}
    key = {**{name: of.key[name] for name in ("model", "dataset", "threat")}, "settings": {}}
    taken = Measurement("gallery", key, {"model": of.about["model"], "settings": {}}, found, RUN)
    Measurements(results).record(taken)
    assert evaluation_id(key) == evaluation_id(of.key)
    return taken
