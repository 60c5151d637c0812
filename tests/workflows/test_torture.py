"""Random signals at random moments: pytest -m slow -s tests/workflows/test_torture.py, or fewer of them by KILLS=20.

Each command is run until it has been stopped so often, over one folder of results, which is cleared where the command
has come to its end; in the end the results are those of a run that nobody stopped.
"""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import pytest
import torch

from robench.ledger.checkup import damage
from robench.models import checkpoint
from tests import ROOT
from tests.evaluation.cases import assert_equal_ledgers
from tests.helpers import Trained
from tests.training.test_loop import assert_equal_weights

KILLS = int(os.environ.get("KILLS", "105"))
"""Over all the commands."""

MARK = "ROBENCH_TORTURED"
"""The variable by which a process that was left over is known."""

QUEUE = """
shared:
  digits:
    dataset: digits
    eps: 0.2
    limit: 256
    train: {epochs: 3, batch_size: 32}
    evaluations: {white_box: {attacks: [fgsm, pgd-20], n: 24}}
queue:
  first: {like: digits, defense: standard}
  second: {like: digits, defense: pgd_at, set: {steps: 3}}
"""

BENCHMARK = """
dataset: digits
norm: linf
eps: 0.2
n: 24
limit: 256
epochs: 3
defenses: [standard, pgd_at]
attacks: [fgsm, pgd-20]
"""

EVAL = ("eval", "--model", "m.pt", "--n", "96", "--batch-size", "4", "--attack", "fgsm", "--attack", "pgd-40")

COMMANDS: dict[str, Sequence[str]] = {
    "eval": EVAL,
    "eval with workers": (*EVAL, "--workers", "2"),
    "train": ("train", "--defense", "trades", "--epochs", "6", "--set", "steps=10", "--resume"),
    "bench": ("bench", "mine.yaml"),
    "reproduce": ("reproduce", "queue.yaml"),
}

STOPPED = {
    signal.SIGKILL: {-signal.SIGKILL},
    signal.SIGTERM: {143, -signal.SIGTERM},  # the second while Python itself is starting
    signal.SIGINT: {130, -signal.SIGINT, 1},
}
"""The exit codes by which a command was stopped."""


@pytest.fixture
def place(in_tmp: Path, digits_model: Trained) -> Path:
    """A working directory with what the commands name, and a folder of temporary files of their own."""
    card = checkpoint.Card("digit_cnn", [1, 8, 8], 10, [0.0], [1.0], "digits", "linf", "0.1", "standard", {}, 0)
    checkpoint.save(in_tmp / "m.pt", digits_model.model, card)
    (in_tmp / "queue.yaml").write_text(QUEUE)
    (in_tmp / "mine.yaml").write_text(BENCHMARK)
    (in_tmp / "tmp").mkdir()
    return in_tmp


class Commands:
    """Starts one command over and over."""

    def __init__(self, words: Sequence[str], place: Path) -> None:
        self.words, self.place, self.mark = words, place, f"{os.getpid()}-{place.name}"
        self.environment = os.environ | {"PYTHONPATH": str(ROOT), "TMPDIR": str(place / "tmp"), "OMP_NUM_THREADS": "1"}
        self.environment |= {MARK: self.mark}

    def start(self, results: str) -> "subprocess.Popen[bytes]":
        words = [sys.executable, "-m", "robench", *self.words, "--results", results]
        return subprocess.Popen(
            words,
            env=self.environment,
            cwd=self.place,
            stdout=subprocess.DEVNULL,
            stderr=(self.place / "err").open("ab"),
            start_new_session=True,
        )

    def left(self) -> list[int]:
        """The processes that it started and that still run, where the system shows what they were given."""
        found = []
        for environment in Path("/proc").glob("[0-9]*/environ"):
            with suppress(OSError):
                if f"{MARK}={self.mark}\0".encode() in environment.read_bytes():
                    found.append(int(environment.parent.name))
        return found

    def check_gone(self) -> None:
        """Nothing of it runs a few seconds after its end, and no folder is left."""
        for _ in range(300):
            if not self.left():
                break
            time.sleep(0.1)
        assert self.left() == []
        assert list((self.place / "tmp").glob("robench*")) == []


def send(process: "subprocess.Popen[bytes]", number: signal.Signals, chance: random.Random) -> None:
    """To the process or, as a terminal and `timeout` do, to all of its group as well."""
    process.send_signal(number)
    if number != signal.SIGKILL and chance.random() < 0.5:
        os.killpg(process.pid, number)


def weights(results: Path) -> Iterator[Path]:
    yield from sorted((results / "checkpoints").glob("*.pt"))


def assert_alike(whole: Path, cut: Path) -> None:
    assert list(damage(cut)) == []
    assert_equal_ledgers(whole, cut)
    assert [path.name for path in weights(whole)] == [path.name for path in weights(cut)]
    for one, other in zip(weights(whole), weights(cut), strict=True):
        assert_equal_weights(one, other)


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_signals_at_random_moments_change_nothing(name: str, place: Path) -> None:
    torch.set_num_threads(1)
    chance, commands, sent = random.Random(name), Commands(COMMANDS[name], place), Counter[str]()
    whole, cut = place / "whole", place / "cut"
    began = time.monotonic()
    assert commands.start("whole").wait() == 0, (place / "err").read_text()
    length = time.monotonic() - began
    while sent.total() < -(-KILLS // len(COMMANDS)):
        process, number = commands.start("cut"), chance.choice(list(STOPPED))
        time.sleep(chance.uniform(0.1, 1.0) * length)
        if process.poll() is None:
            send(process, number, chance)
        code = process.wait(timeout=300)
        commands.check_gone()
        if code == 0:
            assert_alike(whole, cut)
            shutil.rmtree(cut)
        else:
            assert code in STOPPED[number], (code, number, (place / "err").read_text()[-2000:])
            sent[number.name] += 1
    assert commands.start("cut").wait() == 0
    assert_alike(whole, cut)
    print(f"\n{name}: {dict(sent)}, {length:.0f} s when nobody stops it")
