"""Brendel & Bethge's attack, and the process apart in which a library may hang, fail or die."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import robench
from robench.data.datasets import Split
from robench.evaluation.evaluation import Evaluation
from robench.evaluation.run import evaluate
from robench.evaluation.target import from_module
from robench.ledger.store import Ledger
from robench.search.catalog import attack
from robench.search.cost import passes_of
from robench.search.library import process
from robench.search.outcome import Outcome
from robench.search.resources import Images
from robench.search.search import Search
from robench.threat import ThreatModel
from robench.utils import registry
from tests.helpers import Trained, hadamard_case, linear_case, minimal_eps, run_attack

MISBEHAVING = '''
import os
from functools import partial
import numba
import torch
from robench.access import sees
from robench.search.search import Search

@sees("gradients", stops=True, alone=True)
def misbehaving(search: Search, *, seconds: float = 2.0) -> None:
    """Which of these an example meets is told by its id; most are well behaved."""
    function = {2: asserts, 4: hangs, 6: dies, 8: prints}.get(int(search.draws.examples[0]), climbs)
    search.offer(search.project(search.apart(function, search.x, search.y, seconds=seconds, ready=compile_)))

@sees("scores", alone=True)
def greedy(search: Search) -> None:
    search.offer(search.apart(climbs, search.x, search.y, seconds=5.0))

@sees("gradients", alone=True)
def by_fours(search: Search) -> None:
    search.offer(search.apart(asks_for_four, search.x, search.y, seconds=5.0))

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
from robench.search.library import process
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


def run_bb(model: nn.Module, x: Tensor, y: Tensor, eps: float, *, steps: int, ids: list[int] | None = None) -> Outcome:
    """B&B on the examples `ids` of x, in that order, and all of x as its pool of images."""
    ids = list(range(len(x))) if ids is None else ids
    threat, pool = ThreatModel.of("linf", eps), Images.of(x, y)
    return run_attack(f"bb:steps={steps}", model, x[ids], y[ids], threat, ids=ids, images=pool)


CASES = {"two classes": linear_case(2, 8), "five classes": linear_case(5, 8), "equal distances": hadamard_case(8)}


@pytest.mark.parametrize("case", CASES)
def test_it_fools_a_linear_model_just_beyond_the_boundary_and_never_before(case: str) -> None:
    model, x, y = CASES[case]
    beyond = 0
    for row, radius in enumerate(minimal_eps(model, x, y, "linf").tolist()):
        beyond += int(run_bb(model, x, y, 1.02 * radius, steps=1000, ids=[row]).fooled)
        before = run_bb(model, x, y, 0.98 * radius, steps=50, ids=[row])
        assert not before.fooled.any()
        assert not before.failures
    assert beyond >= len(x) - 1  # the start may lie in a class whose boundary is farther


@pytest.mark.parametrize("case", ["two classes", "five classes"])
def test_from_a_corner_of_the_box_it_reaches_the_boundarys_nearest_point(
    case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, x, y = CASES[case]
    monkeypatch.setattr(registry.module("attacks", "bb"), "_start", _corner)  # its own start would come near by itself
    radii = minimal_eps(model, x, y, "linf").tolist()
    fooled = [
        bool(run_bb(model, x, y, 1.02 * radius, steps=1000, ids=[row]).fooled) for row, radius in enumerate(radii)
    ]
    assert sum(fooled) >= 0.75 * len(x)


def _corner(search: Search, images: Images) -> Tensor:
    """A random corner of the box, in another class."""
    for step in range(1000):
        point = search.draws.signs("corner", search.shape, step).clamp(min=0)
        if search.query(point).argmax(1) != search.y:
            return point
    raise AssertionError


def test_an_answer_does_not_depend_on_who_else_is_there(digits_model: Trained) -> None:
    x, y = digits_model.split.floats(slice(6)), digits_model.split.labels[:6]
    together = run_bb(digits_model.model, x, y, 0.06, steps=60)
    assert 0 < int(together.fooled.sum()) < 6
    reversed_ = run_bb(digits_model.model, x, y, 0.06, steps=60, ids=[5, 4, 3, 2, 1, 0])
    alone = [run_bb(digits_model.model, x, y, 0.06, steps=60, ids=[row]) for row in range(6)]
    for name in ("fooled", "kept", "margin", "first_step", "forwards", "backwards"):
        whole = getattr(together, name)
        assert torch.equal(whole, getattr(reversed_, name).flip(0)), name
        assert torch.equal(whole, torch.cat([getattr(outcome, name) for outcome in alone])), name


def test_a_local_model_of_three_channels_is_counted_and_the_callers_state_untouched() -> None:
    forwards: list[int] = []
    backwards: list[int] = []

    class Local(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(3 * 6 * 6, 2)
            self.squash: Callable[[Tensor], Tensor] = lambda z: torch.tanh(z)  # nothing that can be pickled

        def forward(self, x: Tensor) -> Tensor:
            if len(x) == 1:  # the judge's are batches of 16
                forwards.append(1)
                if x.requires_grad:
                    x.register_hook(lambda _: backwards.append(1))  # type: ignore[no-untyped-call]
            return self.squash(self.layer(x.flatten(1)))

    torch.manual_seed(0)
    model, x = Local(), torch.rand(3, 3, 6, 6)
    y = model(x).argmax(1)
    forwards.clear()
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    before = (torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate())  # type: ignore[index]
    outcome = run_bb(model, x, y, 1e-3, steps=50)
    after = (torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate())  # type: ignore[index]
    assert torch.get_num_threads() == threads + 1
    torch.set_num_threads(threads)
    assert torch.equal(before[0], after[0])
    assert before[1:] == after[1:]
    assert not outcome.failures
    looks = 2  # whether the faces of the box have a gradient
    assert int(outcome.forwards.sum()) == len(forwards) - looks > 100
    assert int(outcome.backwards.sum()) == len(backwards) - looks > 100


def test_without_a_start_an_example_is_an_error(tmp_path: Path) -> None:
    class Constant(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.flatten(1)[:, :2] * 0 + torch.tensor([1.0, 0.0])

    x, y = torch.rand(3, 1, 4, 4), torch.tensor([0, 0, 1])
    outcome = run_attack("bb", Constant(), x[:2], y[:2], ThreatModel.of("linf", 0.3), images=Images.of(x, y))
    assert not outcome.fooled.any()
    assert set(outcome.failures.values()) == {"RuntimeError: found no point of another class to start from"}
    with pytest.warns(RuntimeWarning, match="bb failed on example 0"):
        robench.attack("bb")(Constant(), x[:1], y[:1], eps=0.3, images=(x, y))


def test_its_passes_are_counted_on_a_model_that_gives_way_only_beyond_the_threat() -> None:
    x = torch.rand(2, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    threat = ThreatModel.of("linf", 0.1)
    pool = Images.of(x, torch.tensor([0, 1]))
    forwards, backwards = passes_of(attack("bb:steps=50"), threat, x[:1], 10, pool, 0)
    assert forwards > backwards >= 50
    more = passes_of(attack("bb:steps=60"), threat, x[:1], 10, pool, 0)
    assert more == (forwards + 10, backwards + 10)
