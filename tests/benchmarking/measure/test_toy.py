"""ATLD's two-dimensional toy, in small."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from robench import api
from robench.benchmarking.measure import toy
from robench.benchmarking.measure.toy import SCHEMES, Toy
from robench.training.defense import MODEL, Step
from robench.training.inner_max import pgd
from robench.training.recipe import written
from robench.utils.code import reached


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    return toy.measure(points=60, epochs=2)


def test_what_is_perturbed_stays_in_the_ball_and_moves(found: dict[str, Any]) -> None:
    points = np.array(found["points"])
    for scheme in SCHEMES:
        moved = np.abs(np.array(found["perturbed"][scheme]) - points).max(1)
        assert moved.max() <= 0.2 + 2e-3  # coordinates are rounded
        assert moved.mean() > 0.1
    assert np.abs(np.array(found["adjusted"]) - np.array(found["attacked"])).max() == pytest.approx(0.2, abs=2e-3)


def test_directions_have_unit_length(found: dict[str, Any]) -> None:
    for scheme in SCHEMES:
        lengths = np.linalg.norm(np.array(found["fields"][scheme]), axis=1)
        assert lengths.shape == (len(found["arrows"]),)
        assert np.median(lengths) == pytest.approx(1, abs=0.02)


def test_it_is_plain_json_and_the_same_again(found: dict[str, Any]) -> None:
    assert json.loads(json.dumps(found)) == found
    assert toy.measure(points=60, epochs=2) == found


def test_training_separates_the_moons_and_the_margins_tell_so() -> None:
    data = Toy(points=200, noise=0.1, eps=0.2, epochs=60)
    players = data.trained("standard")
    assert data.accuracy(players, data.data.x) > 0.95
    margins = np.array(toy._margins(players[MODEL]))
    column, row = (np.round(data.data.x.flatten(1).numpy() * (toy.GRID - 1)).astype(int)).T
    agree = (margins[row, column] > 0) == (data.data.y.numpy() == 1)
    assert agree.mean() > 0.95


def test_the_batch_shown_last_is_the_defenses_own_adversary() -> None:
    data = Toy(points=50, noise=0.1, eps=0.2, epochs=3)
    players = data.trained("standard")
    step = Step(players, data.threat, torch.Generator().manual_seed(4), 0.0)
    expected = pgd(step, data.data, start="ball", steps=10, step_size="eps/4")
    data.generator = torch.Generator().manual_seed(4)
    assert torch.equal(data.perturbed("pgd_at", players), expected)


def test_a_discriminator_that_learns_beside_a_model_leaves_it_as_it_was() -> None:
    data = Toy(points=50, noise=0.1, eps=0.2, epochs=2)
    standard = data.trained("standard")
    before = {name: tensor.clone() for name, tensor in standard[MODEL].state_dict().items()}
    torch.manual_seed(toy.SEED)
    fresh = written(toy.DEFENSES["atld"]).helpers(nn.Identity(), (1, 1, 2), 2)["discriminator"].network.state_dict()
    learned = data.with_discriminator(standard)["discriminator"].state_dict()
    assert all(torch.equal(before[name], tensor) for name, tensor in standard[MODEL].state_dict().items())
    assert any(not torch.equal(fresh[name], tensor) for name, tensor in learned.items())


def test_a_benchmark_that_measures_on_no_model_evaluates_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "once.yaml"
    file.write_text("once: {toy: {points: 20, epochs: 1}}\n")
    results = tmp_path / "results"
    assert len(api.bench(str(file), results=results)) == 0
    kept = list((results / "measurements").iterdir())
    assert [path.name.partition("-")[0] for path in kept] == ["toy"]
    written_at = kept[0].stat().st_mtime_ns
    api.bench(str(file), results=results)
    assert [path.stat().st_mtime_ns for path in (results / "measurements").iterdir()] == [written_at]
    used = {path.name for path in reached(toy.USES)}
    assert used >= {"atld.py", "feature_scatter.py", "inner_max.py", "discriminators.py"}
    monkeypatch.setattr(toy, "USES", toy.USES[:-1])  # other code may find other numbers
    api.bench(str(file), results=results)
    assert len(list((results / "measurements").iterdir())) == 2
