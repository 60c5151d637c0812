"""Ctrl-C, SIGTERM and SIGKILL in the middle of what takes long: what is kept, what is said, and how it goes on."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from robench import api
from robench.models import checkpoint
from robench.training import loop
from robench.training.loop import SilentTraining
from robench.utils import signals
from robench.utils.errors import Notice, UserError
from tests import ROOT
from tests.evaluation.cases import assert_equal_ledgers, frames
from tests.helpers import Ran, Trained
from tests.training.test_loop import assert_equal_weights

Run = Callable[..., Ran]

STOPS = """
import os, signal
from pathlib import Path
from robench.losses import cross_entropy
from robench.search import Search, sees

@sees("gradients")
def stops(search: Search, *, to: str, times: int = 1) -> None:
    for _ in range(times):
        if not Path("mark").exists():
            os.kill(os.getpid() if to == "itself" else os.getppid(), int(Path("signal").read_text()))
    Path("mark").touch()
    search.offer(search.project(search.x + search.eps * search.gradient(search.x, cross_entropy).sign()))
"""
"""Asks the command to stop from within its first batch."""

SETTINGS: dict[str, Any] = {"limit": 256, "epochs": 3, "settings": {"holdout": 100, "eps_warmup": 1}}


class Asks(SilentTraining):
    """Sends a signal to this process at a step."""

    def __init__(self, step: int, number: int) -> None:
        self.step, self.number = step, number

    def advance(self, step: int, loss: float, passes: int) -> None:
        if step == self.step:
            signal.raise_signal(self.number)


@pytest.fixture
def model(in_tmp: Path, digits_model: Trained) -> Path:
    card = checkpoint.Card("digit_cnn", [1, 8, 8], 10, [0.0], [1.0], "digits", "linf", "0.1", "standard", {}, 0)
    checkpoint.save(in_tmp / "m.pt", digits_model.model, card)
    (in_tmp / "stops.py").write_text(STOPS)
    return in_tmp / "m.pt"


@pytest.mark.parametrize(
    ("number", "workers", "code"),
    [(signal.SIGINT, 1, 130), pytest.param(signal.SIGTERM, 2, 143, marks=pytest.mark.slow)],
)
def test_an_evaluation_ends_with_its_batch_and_goes_on(
    number: int, workers: int, code: int, model: Path, robench: Run
) -> None:
    Path("signal").write_text(str(int(number)))
    attack = f"stops.py:to={'itself' if workers == 1 else 'parent'}"
    command: list[Any] = ["eval", "--model", model, "--n", 16, "--batch-size", 4, "--attack", attack]
    stopped = robench(*command, "--workers", workers)
    assert stopped.code == code, stopped.err
    assert "what was finished is kept in results/ledger, and the same command goes on" in stopped.err
    assert stopped.out == ""
    kept = len(frames(Path("results"))[attack.replace(".py", "")])
    assert 4 <= kept < 16
    assert robench(*command).code == 0
    assert robench(*command, "--results", "whole").code == 0
    assert_equal_ledgers(Path("whole"), Path("results"))


def test_a_second_signal_ends_it_within_the_batch(model: Path, robench: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signals, "REPEAT", 0.0)
    Path("signal").write_text(str(int(signal.SIGINT)))
    stopped = robench("eval", "--model", model, "--n", 16, "--attack", "stops.py:to=itself,times=2")
    assert stopped.code == 130
    assert len(frames(Path("results"))["stops:to=itself,times=2"]) == 0
    assert not Path("mark").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_training_keeps_its_state_and_goes_on_to_the_bit(number: int, in_tmp: Path) -> None:
    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt, match=r"stopped at step 5 of 12; go on with --resume") as stopped:
        api.train("pgd_at", out="cut.pt", progress=Asks(5, number), **SETTINGS)
    assert isinstance(stopped.value, signals.Stopped)
    assert stopped.value.number == number
    assert signal.getsignal(number) is before
    assert checkpoint.read(Path("cut.pt.state"))["step"] == 5
    with pytest.raises(UserError, match="was interrupted; go on with --resume, or start over with --overwrite"):
        api.train("pgd_at", out="cut.pt", **SETTINGS)
    api.train("pgd_at", out="cut.pt", resume=True, **SETTINGS)
    api.train("pgd_at", out="whole.pt", **SETTINGS)
    assert_equal_weights(Path("whole.pt"), Path("cut.pt"))


def test_a_signal_at_the_last_step_loses_nothing(in_tmp: Path) -> None:
    with pytest.raises(KeyboardInterrupt, match=r"m.pt is finished"):
        api.train("standard", out="m.pt", progress=Asks(12, signal.SIGINT), **SETTINGS)
    assert api.train("standard", out="m.pt", resume=True, **SETTINGS).card.metrics["best"]


def test_a_finished_training_is_not_lost_to_the_same_words(in_tmp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.warns(Notice, match=r"there is no state m.pt.state to go on with, so the training starts"):
        first = api.train("standard", out="m.pt", resume=True, **SETTINGS)
    with pytest.raises(UserError, match=r"m.pt is there already; --resume .* --overwrite trains anew"):
        api.train("standard", out="m.pt", **SETTINGS)
    with pytest.raises(UserError, match="got both"):
        api.train("standard", out="m.pt", resume=True, overwrite=True, **SETTINGS)
    assert api.train("standard", out="m.pt", overwrite=True, **SETTINGS).card.metrics == first.card.metrics
    monkeypatch.setattr(loop._Loop, "_step", None)
    assert api.train("standard", out="m.pt", resume=True, **SETTINGS).card.metrics == first.card.metrics


def test_a_benchmark_is_stopped_in_its_training(in_tmp: Path, robench: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    (in_tmp / "mine.yaml").write_text(
        "dataset: digits\nnorm: linf\neps: 0.1\ndefenses: [standard]\nattacks: [fgsm]\nn: 16\nlimit: 256\nepochs: 3\n"
    )
    monkeypatch.setattr("robench.cli.console.TrainingConsole", lambda *_: Asks(2, signal.SIGTERM))
    stopped = robench("bench", "mine.yaml")
    assert stopped.code == 143, stopped.err
    assert "stopped at step 2 of " in stopped.err
    assert "; the same command goes on from there" in stopped.err
    assert list(Path("results/checkpoints").glob("*.state"))


HANGS = """
import os, time
from pathlib import Path
from robench.search import Search, sees

@sees("gradients")
def hangs(search: Search) -> None:
    Path(f"{os.getpid()}.worker").touch()
    time.sleep(600)
"""


def test_workers_go_with_their_parent_however_it_ends(model: Path, in_tmp: Path) -> None:
    Path("hangs.py").write_text(HANGS)
    (in_tmp / "tmp").mkdir()
    words: list[str | Path] = [sys.executable, "-m", "robench", "eval", "--model", model, "--workers", "2"]
    words += ["--n", "8", "--batch-size", "4", "--attack", "hangs.py"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "TMPDIR": str(in_tmp / "tmp"), "OMP_NUM_THREADS": "1"}
    parent = subprocess.Popen(words, env=environment, stderr=subprocess.DEVNULL)
    try:
        _until(lambda: len(list(in_tmp.glob("*.worker"))) == 2, "the workers began")
    finally:
        parent.kill()
        parent.wait()
    workers = [int(path.stem) for path in in_tmp.glob("*.worker")]
    _until(lambda: not any(map(_runs, workers)), "the workers ended")
    assert list((in_tmp / "tmp").glob("robench-*")) == []


def _until(true: Callable[[], bool], what: str) -> None:
    for _ in range(2400):
        if true():
            return
        time.sleep(0.1)
    pytest.fail(f"it never came that {what}")


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
