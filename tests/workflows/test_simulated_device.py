"""What a GPU would run, run on a CUDA device simulated on the CPU, which refuses what CUDA refuses."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from robench.models import checkpoint
from robench.models.checkpoint import Card
from tests import ROOT
from tests.helpers import Trained


@pytest.mark.parametrize("which", ["few", pytest.param("all", marks=pytest.mark.slow)])
def test_attacks_and_trainings_come_out_as_on_the_cpu(which: str, tmp_path: Path, digits_model: Trained) -> None:
    card = Card("digit_cnn", [1, 8, 8], 10, [0.0], [1.0], "digits", "linf", "0.15", "standard", {}, 0)
    checkpoint.save(tmp_path / "digits.pt", digits_model.model, card)
    program = [sys.executable, "-m", "tests.on_simulated_device", str(tmp_path), which, str(tmp_path / "digits.pt")]
    done = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, done.stderr[-4000:]
    found = json.loads((tmp_path / "found.json").read_text())
    assert {name: columns for name, columns in found["attacks"].items() if columns} == {}
    assert len(found["attacks"]) == len(found["ran"]) >= 6
    assert found["taken"]
    assert {name: gap for name, gap in found["trainings"].items() if gap > 1e-4} == {}
    assert len(found["trainings"]) >= 2
