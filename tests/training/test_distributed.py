"""Two processes train as one does: the same weights within rounding, the same files, the same end when one fails."""

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from robench.models import build, checkpoint
from robench.training import epoch_log
from robench.training.augment import augment
from robench.training.defense import Defense
from robench.training.distributed import Processes, Share, differences
from robench.training.loop import train
from robench.training.plan import checkpoint_path, plan_training
from robench.training.recipe import configure, defense_class
from robench.training.rng import BatchGenerator, integers, normal, uniform
from robench.utils.errors import UserError
from tests import ROOT, in_processes
from tests.training.test_loop import Stop, StopAt

Draw = Callable[[int, torch.Generator], Tensor]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where two processes have run `tests/in_processes.py`."""
    folder = tmp_path_factory.mktemp("processes")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    launched = {
        "WORLD_SIZE": "2",
        "LOCAL_WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "OMP_NUM_THREADS": "1",
    }
    processes = [
        subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", "tests.in_processes", folder],
            cwd=ROOT,
            env={**os.environ, **launched, "RANK": rank, "LOCAL_RANK": rank},
        )
        for rank in "01"
    ]
    assert [process.wait(timeout=240) for process in processes] == [0, 3]
    return folder


def read(folder: Path, rank: int) -> dict[str, Any]:
    found: dict[str, Any] = torch.load(folder / f"process{rank}", weights_only=True)
    return found


@pytest.mark.parametrize("name", in_processes.SETTINGS)
def test_two_processes_end_in_the_weights_of_one(name: str, folder: Path, tmp_path: Path) -> None:
    planned = in_processes.plan(name, **in_processes.SETTINGS[name])
    before = in_processes.loop(planned, tmp_path / "m.pt").run_state.players["model"].state_dict()
    before = {key: value.clone() for key, value in before.items()}
    alone = in_processes.ended(planned, tmp_path / "m.pt")["model"]
    for key, value in read(folder, 0)[name]["model"].items():
        moved = (alone[key] - before[key]).abs().max()
        assert moved > 0
        assert (value - alone[key]).abs().max() < 0.01 * moved, key
    together = checkpoint.card_of(checkpoint.read(folder / f"{name}.pt"))
    by_itself = checkpoint.card_of(checkpoint.read(tmp_path / "m.pt"))
    assert together is not None
    assert by_itself is not None
    assert (together.processes, by_itself.processes) == (2, 1)
    assert together.recipe == by_itself.recipe
    for row, expected in zip(together.metrics["history"], by_itself.metrics["history"], strict=True):
        assert row == pytest.approx(expected, rel=1e-3)
    rows = epoch_log.read(folder / f"{name}.pt.metrics.csv")
    alike = epoch_log.read(tmp_path / "m.pt.metrics.csv")
    assert [row["epoch"] for row in rows] == [1, 2]
    assert [row["passes"] for row in rows] == pytest.approx([row["passes"] for row in alike], rel=0.05)


@pytest.mark.parametrize("name", [*in_processes.SETTINGS, *in_processes.SHARED])
def test_all_processes_end_in_the_same_weights(name: str, folder: Path) -> None:
    """To the bit, batch norm's running statistics included."""
    first, second = read(folder, 0)[name], read(folder, 1)[name]
    assert first.keys() == second.keys()
    for player, weights in first.items():
        assert all(torch.equal(value, second[player][key]) for key, value in weights.items())


def test_a_loss_that_is_no_number_in_one_process_stops_all_with_one_sentence(folder: Path) -> None:
    first, second = read(folder, 0)["nan"], read(folder, 1)["nan"]
    assert first.startswith("the loss of model is nan at step 4, so training stopped")
    assert first == second
    kept = checkpoint.card_of(checkpoint.read(folder / "nan.last-good.pt"))
    assert kept is not None
    assert kept.metrics["best"]["epoch"] == 1
    assert not (folder / "nan.pt").exists()


def test_a_process_that_ends_leaves_no_other_waiting(folder: Path) -> None:
    assert "another process of this training has ended" in read(folder, 0)["end"]
    assert not (folder / "end.pt").exists()


@pytest.mark.slow
def test_the_command_line_resumes_in_two_processes_what_one_began(tmp_path: Path) -> None:
    """And names and writes what one would have, and speaks once."""
    words = {"epochs": 2, "limit": 192, "settings": {"holdout": 100, "steps": 2}}
    planned = plan_training("pgd_at", **words)  # type: ignore[arg-type]
    whole, cut = checkpoint_path(planned, tmp_path / "whole"), checkpoint_path(planned, tmp_path / "cut")
    train(planned, whole)
    with pytest.raises(Stop):
        train(planned, cut, progress=StopAt(3), save_seconds=0)
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "robench"]
    arguments = ["train", "--defense", "pgd_at", "--epochs", "2", "--limit", "192", "--set", "holdout=100"]
    arguments += ["--set", "steps=2", "--results", str(tmp_path / "cut"), "--resume", "--device", "cpu"]
    ran = subprocess.run(
        [sys.executable, *launcher, *arguments],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines() == [str(cut)]
    assert ran.stderr.count("kept epoch") == 1
    one, two = (checkpoint.read(path)["weights"] for path in (whole, cut))
    assert all(torch.allclose(value, two[key], atol=1e-5) for key, value in one.items())
    assert not cut.with_name(cut.name + ".state").exists()


@pytest.mark.parametrize(("size", "count"), [(64, 2), (33, 2), (10, 4), (3, 8)])
def test_shares_are_even_and_draws_are_rows_of_the_whole_batchs(size: int, count: int) -> None:
    draws: dict[str, Draw] = {
        "uniform": lambda n, generator: uniform((3 * n, 2), generator),
        "normal": lambda n, generator: normal((n, 1, 2), generator),
        "integers": lambda n, generator: integers(1, 9, (n,), generator),
        "crop": lambda n, generator: augment(torch.ones(n, 1, 4, 4), ["crop", "flip"], generator),
    }
    shares = [Processes(index, count).share(size) for index in range(count)]
    assert torch.equal(torch.cat([torch.arange(size)[share.rows] for share in shares]), torch.arange(size))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    for name, draw in draws.items():
        whole = draw(size, torch.Generator().manual_seed(5))
        copies = len(whole) // size
        for share in shares:
            if len(share):
                generator = BatchGenerator(torch.device("cpu"), 5, share)
                expected = torch.unflatten(whole, 0, (copies, size))[:, share.rows].flatten(0, 1)
                assert torch.equal(draw(len(share), generator), expected), name
                assert torch.equal(torch.rand(1, generator=generator), torch.rand(1, generator=_after(draw, size)))


def _after(draw: Draw, size: int) -> torch.Generator:
    generator = torch.Generator().manual_seed(5)
    draw(size, generator)
    return generator


def test_a_draw_that_is_not_for_each_example_is_refused() -> None:
    generator = BatchGenerator(torch.device("cpu"), 0, Share(8, Processes(0, 2)))
    with pytest.raises(UserError, match="share of 4 examples or for copies of it, got 6"):
        uniform((6,), generator)


def test_what_differs_from_one_process_is_said() -> None:
    shape = (1, 28, 28)
    plain, dropping = build("lenet", shape, 10), build("small_cnn", shape, 10)
    normalising = build("resnet18", (3, 32, 32), 10)
    assert differences([plain], couples=False) == []
    assert "dropout" in " ".join(differences([dropping], couples=False))
    assert "batch norm" in " ".join(differences([plain, normalising], couples=False))
    assert "across its share" in " ".join(differences([plain], couples=True))


COUPLING: Sequence[tuple[str, dict[str, Any], bool]] = [
    ("trades", {}, False),
    ("ald", {}, False),
    ("ald", {"kernel_scope": "batch"}, True),
    ("feature_scatter", {}, True),
    ("tla", {}, True),
    ("atld", {}, True),
    ("atld", {"invariance": "discriminator"}, False),
    ("awp", {"wraps": "trades"}, False),
    ("awp", {"wraps": "feature_scatter"}, True),
]


@pytest.mark.parametrize(("name", "settings", "couples"), COUPLING)
def test_a_defense_couples_examples_where_it_says_so(name: str, settings: dict[str, Any], couples: bool) -> None:
    defense: Defense = configure(defense_class(name), settings, name)
    assert defense.couples is couples
