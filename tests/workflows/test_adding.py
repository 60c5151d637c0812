"""A new attack, defense, network or data set is one file or one entry, in robench's folders or in a user's own."""

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from robench.evaluation.target import load_model
from robench.models import architecture, build, checkpoint
from robench.models.checkpoint import Card
from robench.utils.errors import UserError
from tests import ROOT
from tests.helpers import Ran, Trained

ATTACK = '''\
"""Decoupled direction and norm, the attack of Rony et al. (2019) that looks for the smallest perturbation."""

import torch

from robench.losses import margin
from robench.search import Search, sees


@sees("gradients", norms=("l2",))
def ddn(search: Search, *, steps: int = 20, gamma: float = 0.05) -> None:
    """Steps up the margin, each to a radius that shrinks where the point before fooled the model, else grows."""
    at = search.state(x=search.x, radius=torch.full_like(search.x[:, 0, 0, 0], search.eps))
    for step in search.steps(steps):
        value, gradient = search.value_and_gradient(at.x, margin)
        at.radius = at.radius * torch.where(value > 0, 1 - gamma, 1 + gamma)
        moved = at.x - search.x + (1 - step / steps) * search.steepest(gradient)
        length = moved.flatten(1).norm(dim=1).clamp(min=1e-12)
        at.x = (search.x + (at.radius / length).view(-1, 1, 1, 1) * moved).clamp(0, 1)
    search.offer(search.project(at.x))
'''

DEFENSE = '''\
"""Training on images with Gaussian noise."""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from robench.training.defense import MODEL, Batch, Defense, Step
from robench.training.rng import normal


@dataclass(frozen=True)
class GaussianTraining(Defense):
    """ce(f(x + sigma * r), y), r ~ N(0, I). Passes a step: 1."""

    sigma: float = 0.1

    def losses(self, batch: Batch, step: Step) -> dict[str, Tensor]:
        noisy = batch.x + self.sigma * normal(batch.x.shape, step.generator)
        return {MODEL: F.cross_entropy(step.model(noisy.clamp(0, 1)), batch.y)}
'''

NETWORK = '''\
import math
from collections.abc import Sequence

from torch import Tensor, nn

from robench.models.network import Network


class MLP(Network):
    """One hidden layer of 64 units."""

    smallest = 1

    def __init__(self, shape: Sequence[int], classes: int) -> None:
        super().__init__(shape, classes)
        self.hidden = nn.Linear(math.prod(shape), 64)
        self.out = nn.Linear(64, classes)

    def feature_map(self, x: Tensor) -> Tensor:
        return self.hidden(self.normalize(x).flatten(1))

    def pool(self, feature_map: Tensor) -> Tensor:
        return feature_map.relu()

    def head(self, features: Tensor) -> Tensor:
        return self.out(features)


NETWORKS = {"mlp": MLP}
'''

ENTRY = """\
    Dataset(
        "corners",
        "a bright corner on noise",
        readers.npz_under("corners.npz"),
        (3, 8, 6),
        classes=4,
        test_images=40,
        like="digits",
    ),
"""

PROGRAM = """
import shlex, sys
from robench.cli.main import main
for command in sys.argv[1:]:
    sys.argv, code = shlex.split(command), 0
    try:
        main()
    except SystemExit as end:
        code = int(end.code or 0)
    for stream in (sys.stdout, sys.stderr):
        print(code, end="\\x1e", file=stream, flush=True)
"""

COMMANDS = {
    "attack": (
        "robench list attacks",
        "robench show attack ddn:steps=30",
        "robench eval --model digits.pt --attack ddn --attack pgd-20 --norm l2 --eps 0.5 --n 40 --format json",
    ),
    "defense": (
        "robench list defenses",
        "robench show defense gauss_at",
        "robench train --defense gauss_at --set sigma=0.2 --epochs 1 --limit 400 --out gauss.pt",
        "robench eval --model gauss.pt --attack fgsm --n 10 --format json",
        "robench train --defense gaus_at",
    ),
    "network": (
        "robench list models",
        "robench train --defense standard --arch mlp --epochs 2 --out mlp.pt",
        "robench eval --model mlp.pt --attack fgsm --n 40 --format json",
    ),
    "data set": (
        "robench list datasets",
        "robench train --defense pgd_at --dataset corners --data-root images --epochs 1 --set holdout=0 --out c.pt",
        "robench eval --model c.pt --data-root images --attack fgsm --n 40 --format json",
    ),
}


@pytest.fixture(scope="module")
def walked(tmp_path_factory: pytest.TempPathFactory, digits_model: Trained) -> dict[str, list[Ran]]:
    """What each command says in a copy of robench with its folders, to which one thing of each kind is added."""
    folder = tmp_path_factory.mktemp("walked")
    house = folder / "house"
    for name in ("robench", "attacks", "defenses", "benchmarks"):
        leave_out = shutil.ignore_patterns("__pycache__", "speed")
        shutil.copytree(ROOT / name, house / name, ignore=leave_out)
    (house / "attacks" / "ddn.py").write_text(ATTACK)
    (house / "defenses" / "gauss_at.py").write_text(DEFENSE)
    (house / "robench" / "models" / "mlp.py").write_text(NETWORK)
    catalog = house / "robench" / "data" / "catalog.py"
    catalog.write_text(catalog.read_text().replace("\n)\n\nDATASETS", f"\n{ENTRY})\n\nDATASETS"))
    trained_model(folder / "digits.pt", digits_model)
    (folder / "images").mkdir()
    corners(folder / "images" / "corners.npz", 200)
    commands = [command for of_a_kind in COMMANDS.values() for command in of_a_kind]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *commands],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(house), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    said = zip(done.stdout.split("\x1e"), done.stderr.split("\x1e"), strict=True)
    each = iter([Ran(int(out[-1:] or -1), out[:-1], err[:-1]) for out, err in said])
    return {kind: [next(each) for _ in of_a_kind] for kind, of_a_kind in COMMANDS.items()}


def trained_model(path: Path, trained: Trained) -> Path:
    card = Card("digit_cnn", [1, 8, 8], 10, [0.0], [1.0], "digits", "linf", "0.1", "standard", {"name": "standard"}, 0)
    checkpoint.save(path, trained.model, card)
    return path


def corners(path: Path, count: int) -> None:
    """Images [count, 3, 8, 6] of which one of four corners is bright: the label."""
    rng, labels = np.random.default_rng(0), np.arange(count) % 4
    images = rng.integers(0, 100, (count, 3, 8, 6), dtype=np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[:, 4 * (label // 2) :, 3 * (label % 2) :][:, :4, :3] += 150
    np.savez(path, x_train=images, y_train=labels, x_test=images[:40], y_test=labels[:40])


def read(out: str) -> dict[str, Any]:
    """The JSON object that ends what was printed."""
    found: dict[str, Any] = json.loads(out[out.index("{\n") :])
    return found


def accuracy(found: dict[str, Any], attack: str) -> float:
    return float(found["attacks"][attack]["accuracy"])


def codes(walk: list[Ran]) -> list[int]:
    return [done.code for done in walk]


def test_an_attack_is_one_file(walked: dict[str, list[Ran]]) -> None:
    listed, shown, evaluated = walked["attack"]
    assert codes(walked["attack"]) == [0, 0, 0], evaluated.err
    assert "ddn" in listed.out
    assert "each to a radius that shrinks" in shown.out
    found = read(evaluated.out)
    assert accuracy(found, "ddn") < found["clean"]["accuracy"] - 0.3
    assert abs(accuracy(found, "ddn") - accuracy(found, "pgd-20")) <= 0.1


def test_a_defense_is_one_file(walked: dict[str, list[Ran]]) -> None:
    listed, shown, trained, evaluated, mistyped = walked["defense"]
    assert codes(walked["defense"]) == [0, 0, 0, 0, 2], trained.err
    assert "no recipe" in listed.out
    assert "ce(f(x + sigma * r), y)" in shown.out
    assert "gauss_at on digits (settings for digits)" in trained.err
    assert "sigma=0.2" in trained.err
    assert read(evaluated.out)["threat"] == "linf 0.2"
    assert "did you mean 'gauss_at'" in mistyped.err


def test_a_network_is_one_file(walked: dict[str, list[Ran]]) -> None:
    listed, trained, evaluated = walked["network"]
    assert codes(walked["network"]) == [0, 0, 0], trained.err
    assert "One hidden layer of 64 units." in listed.out
    assert "mlp (mlp)" in evaluated.err
    assert read(evaluated.out)["clean"]["accuracy"] > 0.3


def test_a_data_set_is_one_entry(walked: dict[str, list[Ran]]) -> None:
    listed, trained, evaluated = walked["data set"]
    assert codes(walked["data set"]) == [0, 0, 0], trained.err
    assert "a bright corner on noise" in listed.out
    assert "pgd_at on corners (settings for digits)" in trained.err
    found = read(evaluated.out)
    assert (found["n"], found["threat"]) == (40, "linf 0.2")


def test_in_an_empty_folder_each_is_a_file_too(in_tmp: Path, robench: Callable[..., Ran]) -> None:
    for name, text in {"ddn": ATTACK, "gauss_at": DEFENSE, "mlp": NETWORK}.items():
        (in_tmp / f"{name}.py").write_text(text)
    corners(in_tmp / "mine.npz", 200)
    named = "--defense ./gauss_at.py --arch ./mlp.py --dataset npz:mine.npz"
    set_ = "--epochs 20 --set holdout=0 --set augment=[]"
    trained = robench("train", *shlex.split(f"{named} {set_} --out m.pt"))
    assert trained.code == 0, trained.err
    told = "--model m.pt --arch ./mlp.py --attack ./ddn.py:steps=30 --norm l2 --eps 0.5 --n 20 --format json"
    evaluated = robench("eval", *shlex.split(told), "--workers", 2)
    assert evaluated.code == 0, evaluated.err
    found = read(evaluated.out)
    assert found["clean"]["accuracy"] > 0.8
    assert accuracy(found, "ddn:steps=30") <= found["clean"]["accuracy"]


def test_a_checkpoint_alone_has_no_code_run(tmp_path: Path) -> None:
    theirs = tmp_path / "theirs.py"
    theirs.write_text(f"import os\nos.mkdir({str(tmp_path / 'ran')!r})\n{NETWORK}")
    card = Card(str(theirs), [1, 8, 8], 10, [0.0], [1.0], "digits", "linf", "0.1", "standard", {"name": "standard"}, 0)
    (tmp_path / "same.py").write_text(NETWORK)
    network = build(str(tmp_path / "same.py"), [1, 8, 8], 10)
    checkpoint.save(tmp_path / "m.pt", network, card)
    with pytest.raises(UserError, match="--arch"):
        load_model(tmp_path / "m.pt")
    assert not (tmp_path / "ran").exists()
    theirs.write_text(NETWORK)
    loaded = load_model(tmp_path / "m.pt", arch=str(theirs)).model
    assert torch.equal(loaded(torch.ones(1, 1, 8, 8)), network(torch.ones(1, 1, 8, 8)))
    assert load_model(tmp_path / "m.pt").arch == str(theirs)


@pytest.mark.parametrize("table", ["", 'NETWORKS = {"a": MLP, "b": MLP}'])
def test_a_users_file_holds_one_network(table: str, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(NETWORK.replace('NETWORKS = {"mlp": MLP}', table))
    with pytest.raises(UserError, match="a table NETWORKS of one network"):
        architecture(str(tmp_path / "mine.py"))
