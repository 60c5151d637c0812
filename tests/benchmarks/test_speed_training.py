"""The passes that benchmarks/speed/training.py counts are those the methods make."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from robench.training.plan import plan_training
from tests import ROOT

SCRIPT = ROOT / "benchmarks" / "speed" / "training.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("speed_training", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["speed_training"] = module  # dataclasses look there
    spec.loader.exec_module(module)
    return module


COUNTS: list[tuple[str, dict[str, Any], tuple[float, float, float]]] = [
    ("standard", {}, (1, 0, 1)),
    ("pgd_at", {"steps": 3}, (4, 3, 1)),
    ("trades", {"steps": 3}, (6, 3, 2)),
    ("ald_pgd", {"steps": 2, "particles": 3}, (3 * 3 + 1, 6, 3 + 1)),
    ("adt_exp", {"steps": 2, "samples": 4}, (9, 8, 1)),
    ("adt_exp_am", {"filters": 8}, (3, 2 + 1, 1)),  # the generator's loss goes back through the model
    ("awp", {"wraps": "pgd_at:steps=3"}, (5, 3, 2)),
    ("bilateral", {}, (4, 1, 1)),
]


@pytest.mark.parametrize(("name", "settings", "expected"), COUNTS)
def test_passes_of_a_step(
    name: str, settings: dict[str, Any], expected: tuple[float, float, float], script: ModuleType
) -> None:
    changes = {"epochs": 1, "holdout": 0, "eps_warmup": 0, "select": "last", "batch_size": 16, **settings}
    grad, backward = torch.autograd.grad, torch.autograd.backward
    row = script.measure(plan_training(name, limit=16 * 4, settings=changes), "cpu")
    assert (row["forwards"], row["input_backwards"], row["parameter_backwards"]) == expected
    assert row["steps_timed"] == 2
    assert row["ratio"] == pytest.approx(row["step_ms"] / row["passes_ms"], rel=0.05)
    assert (torch.autograd.grad, torch.autograd.backward) == (grad, backward)


def test_it_times_every_recipe_on_request(script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "t.csv"
    words = ["--dataset", "digits", "--repeats", "1", "--device", "cpu"]
    for name in ("standard", "l2l", "vada"):
        words += ["--defense", name]
    monkeypatch.setattr(sys, "argv", ["training.py", *words, "--out", str(out)])
    script.main()
    header, *rows = out.read_text().splitlines()
    assert header.startswith("dataset,defense,arch,batch_size,precision,forwards")
    assert [row.split(",")[1] for row in rows] == ["standard", "l2l", "vada"]
