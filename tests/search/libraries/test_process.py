"""The process apart in which a library may hang, fail or die."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor, nn

from robench.data.datasets import Split
from robench.evaluation.evaluation import Evaluation
from robench.evaluation.run import evaluate
from robench.evaluation.target import from_module
from robench.ledger.store import Ledger
from robench.search.catalog import attack
from robench.search.libraries import process
from robench.threat import ThreatModel
from tests.helpers import linear_case, minimal_eps, run_attack

MISBEHAVING = '''
import os
from functools import partial
import numba
import torch
from robench.search import sees
from robench.search.search import Search

@sees("gradients", stops=True, one_at_a_time=True)
def misbehaving(search: Search, *, seconds: float = 2.0) -> None:
    """Which of these an example meets is told by its id; most are well behaved."""
    function = {2: asserts, 4: hangs, 6: dies, 8: prints}.get(int(search.draws.examples[0]), climbs)
    search.offer(search.project(search.isolated(function, search.x, search.y, seconds=seconds, ready=compile_)))

@sees("scores", one_at_a_time=True)
def greedy(search: Search) -> None:
    search.offer(search.isolated(climbs, search.x, search.y, seconds=5.0))

@sees("gradients", one_at_a_time=True)
def by_fours(search: Search) -> None:
    search.offer(search.isolated(asks_for_four, search.x, search.y, seconds=5.0))

def asks_for_four(model, x, y):
    model(torch.cat([x, 1 - x, x + 9, climbs(model, x, y)]))
    return x

def climbs(model, x, y):
    for _ in range(20):
        x = x.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(torch.nn.functional.cross_entropy(model(x), y), x)
        x = (x + 0.01 * gradient.sign()).clamp(0, 1)
    return x

def asserts(model, x, y):
    assert x.sum() < 0

def dies(model, x, y):
    model(x)
    os._exit(3)

def prints(model, x, y):
    print("noise", flush=True)
    os.write(2, b"noise")
    return torch.rand_like(x)

def hangs(model, x, y):
    forever(0)

@numba.njit
def forever(n):
    while n >= 0:
        n = 1 - n
    return n

def compile_():
    forever(-1)
'''


@pytest.fixture
def misbehaving(tmp_path: Path) -> str:
    path = tmp_path / "misbehaving.py"
    path.write_text(MISBEHAVING)
    (tmp_path / "greedy.py").write_text(MISBEHAVING)
    (tmp_path / "by_fours.py").write_text(MISBEHAVING)
    return str(path)


def evaluated(written: str, model: nn.Module, x: Tensor, y: Tensor, eps: float, results: Path) -> Any:
    """Rows of the ledger."""
    evaluation = Evaluation(
        from_module(model), Split("toy", x, y), ThreatModel.of("linf", eps), [attack(written)], batch_size=5
    )
    cells = evaluate(evaluation, Ledger(results), {})
    return cells[attack(written).name].rows().set_index("example").sort_index()


def test_a_hang_a_crash_and_an_assertion_are_errors_that_harm_nobody_else(
    misbehaving: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    model, x, y = linear_case(3, examples=12)
    eps = float(minimal_eps(model, x, y, "linf").median())
    rows = evaluated(misbehaving, model, x, y, eps, tmp_path)
    failed = rows[rows["status"] == "error"]
    assert failed.index.tolist() == [2, 4, 6]
    assert failed["fooled"].isna().all()
    for message, part in zip(failed["message"], ["assert x.sum() < 0", "within 2 s", "process died"], strict=True):
        assert part in message
    others = [example for example in range(12) if example not in (2, 4, 6, 8)]
    wanted = minimal_eps(model, x, y, "linf")[others] < min(eps, 0.2)
    assert rows["fooled"][others].tolist() == wanted.tolist()
    assert 0 < int(wanted.sum()) < len(others)
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "")


def test_gradients_are_for_those_who_declared_them(misbehaving: str) -> None:
    model, x, y = linear_case(3, examples=2)
    outcome = run_attack(misbehaving.replace("misbehaving.py", "greedy.py"), model, x, y, ThreatModel.of("linf", 0.1))
    assert sorted(outcome.failures) == [0, 1]
    assert not outcome.fooled.any()
    assert outcome.queries.tolist() == [1, 1]
    assert outcome.backwards.tolist() == [0, 0]


def test_a_library_may_ask_for_several_points_at_once(misbehaving: str) -> None:
    model, x, y = linear_case(3, examples=2)
    outcome = run_attack(misbehaving.replace("misbehaving.py", "by_fours.py"), model, x, y, ThreatModel.of("linf", 0.2))
    assert not outcome.failures
    assert outcome.fooled.any()


def test_a_process_that_was_killed_is_started_again(misbehaving: str) -> None:
    model, x, y = linear_case(3, examples=2)
    for _ in range(2):
        assert run_attack(misbehaving, model, x, y, ThreatModel.of("linf", 0.2)).fooled.any()
        process._open[os.getpid()]._process.kill()
        process._open[os.getpid()]._process.wait()


def test_it_needs_no_guarded_main_and_dies_with_the_process_that_started_it(misbehaving: str, tmp_path: Path) -> None:
    program = f"""
import os, signal
from tests.helpers import linear_case, run_attack
from robench.search.libraries import process
from robench.threat import ThreatModel
model, x, y = linear_case(3, examples=1)
run_attack({misbehaving!r}, model, x, y, ThreatModel.of("linf", 0.2))
print(process._open[os.getpid()]._process.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    (tmp_path / "script.py").write_text(program)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, tmp_path / "script.py"], capture_output=True, text=True, env=environment)
    assert done.returncode == -signal.SIGKILL, done.stderr
    gone = time.monotonic() + 20
    while _runs(int(done.stdout)) and time.monotonic() < gone:
        time.sleep(0.1)
    assert not _runs(int(done.stdout))


def _runs(process: int) -> bool:
    """Whether it is there and no zombie that nobody reaps."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
