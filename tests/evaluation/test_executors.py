"""Workers: the ledger is the serial run's, whoever dies on the way."""

import multiprocessing
import os
import re
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from robench import api
from robench.evaluation.executors import names, processes
from robench.evaluation.plan import EvaluationOptions, plan_evaluation
from robench.evaluation.run import SilentEvaluation, run
from robench.evaluation.shards import Scale
from robench.ledger.store import Ledger
from robench.utils.errors import UserError
from tests.evaluation.cases import assert_equal_ledgers, frames, planned
from tests.helpers import Linear, Ran, Trained

Run = Callable[..., Ran]


DIES = """
import os, signal
from pathlib import Path
from robench.search import sees
from robench.losses import cross_entropy
from robench.search import Search

calls = 0

@sees("gradients")
def dies(search: Search, *, mark: str = "mark", at: int = 4) -> None:
    global calls
    calls += 1
    if calls == at and not Path(mark).exists():
        Path(mark).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    search.offer(search.project(search.x + search.eps * search.gradient(search.x, cross_entropy).sign()))
"""
"""The process that first runs four batches of it dies in the fourth: the second of a unit, whose first is not yet
written."""


def told(ran: Ran) -> list[str]:
    """What was shown of each attack, without its speed."""
    return [re.sub(r", [\d,]+ passes/s", "", line) for line in ran.err.splitlines() if " robust" in line]


@pytest.mark.parametrize(
    "attacks",
    [
        pytest.param(("fgsm", "apgd-ce", "dies.py:mark=mark"), marks=pytest.mark.slow),
        pytest.param(("foolbox:LinfPGD:steps=3", "adt_exp_am:epochs=1,filters=8", "dies.py"), marks=pytest.mark.slow),
    ],
)
def test_two_workers_of_whom_one_is_killed_leave_the_serial_ledger(
    attacks: Sequence[str], robench: Run, model: Path
) -> None:
    Path("dies.py").write_text(DIES)
    command: list[Any] = ["eval", "--model", model, "--n", 64, "--batch-size", 4]
    command += [word for attack in attacks for word in ("--attack", attack)]
    Path("mark").touch()  # nobody dies
    serial = robench(*command, "--results", "serial")
    assert serial.code == 0, serial.err
    Path("mark").unlink()
    shared = robench(*command, "--results", "shared", "--workers", 2)
    assert shared.code == 0, shared.err
    assert Path("mark").exists()
    assert_equal_ledgers(Path("serial"), Path("shared"))
    assert told(shared) == told(serial)
    assert len(told(serial)) == 2 + len(attacks)
    assert multiprocessing.active_children() == []


class Kills(SilentEvaluation):
    """Kills one of the workers when the attack has advanced so often."""

    def __init__(self, attack: str, advances: int) -> None:
        self.attack, self.left, self.killed = attack, advances, 0
        self.seen: dict[str, list[int]] = {}

    def begin(self, attack: str, examples: int) -> None:
        self.running = attack
        self.seen[attack] = [examples, 0]

    def advance(self, examples: int, robust: int) -> None:
        self.seen[self.running][1] += examples
        self.left -= self.running == self.attack
        if self.left == 0 and not self.killed:
            child = multiprocessing.active_children()[0]
            assert child.pid
            os.kill(child.pid, signal.SIGKILL)
            self.killed = child.pid


def test_the_worst_case_by_workers_of_whom_one_is_killed_is_the_serial_one(
    tmp_path: Path, digits_model: Trained
) -> None:
    evaluation = planned(digits_model, ["pgd-20", "fgsm"], mode="worst-case")
    serial = run(evaluation, tmp_path / "serial")
    kills = Kills("pgd-20", 5)
    shared = run(evaluation, tmp_path / "shared", kills, scale=Scale(2, "processes"))
    assert kills.killed
    assert all(examples == advanced for examples, advanced in kills.seen.values())
    assert_equal_ledgers(tmp_path / "serial", tmp_path / "shared")
    assert 0 < serial.attacks["pgd-20"].n_run < 64
    assert [(name, each.n_run) for name, each in shared.attacks.items()] == [
        (name, each.n_run) for name, each in serial.attacks.items()
    ]
    assert shared.worst_case == serial.worst_case


def test_a_unit_that_kills_every_worker_ends_the_run_in_one_sentence(
    in_tmp: Path, digits_model: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "RETRIES", 0)
    (in_tmp / "dies.py").write_text(DIES)
    evaluation = planned(digits_model, ["dies.py:mark=mark,at=1"])
    with pytest.raises(UserError, match=r"1 workers died .* on examples 0 to \d+ under dies:mark=mark"):
        run(evaluation, in_tmp, scale=Scale(1, "processes"))
    assert multiprocessing.active_children() == []
    assert "dies:mark=mark,at=1" in frames(in_tmp)  # the next run, in which nobody dies, ends it
    run(evaluation, in_tmp)
    assert len(frames(in_tmp)["dies:mark=mark,at=1"]) == 64


@pytest.mark.parametrize("executor", names())
def test_with_nothing_to_run_nothing_is_started(
    executor: str, tmp_path: Path, digits_model: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    if executor == "ray":
        pytest.importorskip("ray")
    evaluation = planned(digits_model, n=20)
    first = run(evaluation, tmp_path)
    monkeypatch.setattr("robench.evaluation.worker.Prepared.__init__", None)
    monkeypatch.setattr("robench.evaluation.executors.processes.Executor._start", None)
    assert run(evaluation, tmp_path, scale=Scale(1, executor)) == first


def test_ray_leaves_the_serial_ledger(in_tmp: Path, digits_model: Trained) -> None:
    ray = pytest.importorskip("ray")
    (in_tmp / "dies.py").write_text(DIES)
    mark = in_tmp / "mark"
    evaluation = planned(digits_model, ["fgsm", "apgd-ce", f"dies.py:mark={mark}"])
    run(evaluation, in_tmp / "ray", scale=Scale(2, "ray"))
    assert mark.exists()
    assert not ray.is_initialized()
    run(evaluation, in_tmp / "serial")
    assert_equal_ledgers(in_tmp / "serial", in_tmp / "ray")


def test_a_model_that_cannot_travel_is_refused_before_anything_runs(tmp_path: Path, digits_model: Trained) -> None:
    class Local(Linear): ...

    evaluation = plan_evaluation(
        Local(torch.zeros(10, 64), torch.zeros(10)), EvaluationOptions(attacks=["fgsm"], eps=0.1)
    )
    with pytest.raises(UserError, match=r"Local cannot be sent to another process .*at the top of a file"):
        run(evaluation, tmp_path, scale=Scale(2, "processes"))
    assert Ledger(tmp_path).cells() == []


def test_python_takes_the_same_words(tmp_path: Path, digits_model: Trained) -> None:
    options: dict[str, Any] = {"attacks": ["fgsm"], "eps": 0.1, "n": 40, "batch_size": 10, "results": tmp_path}
    assert api.evaluate(digits_model.model, part="2/2", **options).n == 20
    with pytest.raises(UserError, match="expected 1 worker for the executor serial, got 2"):
        api.evaluate(digits_model.model, workers=2, executor="serial", **options)


@pytest.mark.parametrize("command", [["eval", "--model", "none.pt"], ["bench", "quickstart"], ["reproduce"]])
def test_a_process_of_a_launcher_does_not_repeat_an_evaluation(
    command: list[str], robench: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", "1")
    ran = robench(*command)
    assert ran.code == 2
    assert "torchrun shares a training, not an evaluation" in ran.err
