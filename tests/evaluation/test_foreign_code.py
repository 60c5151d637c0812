"""Models and attacks that hang or raise: the attack ends in errors, and elsewhere a sentence names the model."""

import multiprocessing
from collections.abc import Callable
from pathlib import Path

import pytest

from robench import api
from robench.evaluation.shards import Scale
from robench.utils.deadline import Duration
from robench.utils.errors import UserError
from tests.evaluation.cases import frames
from tests.helpers import Ran

Run = Callable[..., Ran]

HANGS = """
import ctypes
from robench.search import Search, sees
from robench.losses import cross_entropy

calls = 0

@sees("gradients")
def hangs(search: Search, *, at: int = 2) -> None:
    global calls
    calls += 1
    if calls == at:
        ctypes.PyDLL(None).sleep(600)  # no signal's handler runs meanwhile
    search.offer(search.project(search.x + search.eps * search.gradient(search.x, cross_entropy).sign()))
"""


def test_an_attack_that_hangs_ends_in_errors_and_the_battery_goes_on(robench: Run, model: Path) -> None:
    Path("hangs.py").write_text(HANGS)
    command = ["eval", "--model", model, "--n", 40, "--batch-size", 16]
    command += ["--attack", "hangs.py", "--attack", "fgsm"]
    ran = robench(*command, "--timeout", "6s")
    assert ran.code == 1, ran.err
    assert "hangs ended in an error on" in ran.err
    assert "it has not ended within 6s, its timeout" in ran.err
    assert "unreliable" in ran.out
    assert multiprocessing.active_children() == []
    late, whole = frames(Path("results"))["hangs"], frames(Path("results"))["fgsm"]
    assert len(late) == len(whole) == 40
    assert set(late["status"][:16]) == {"ok"}  # the first batch was finished
    attacked = late["clean_prediction"] == late["label"]
    assert ((late["status"] == "error") == attacked)[16:].all()
    assert not (whole["status"] == "error").any()


@pytest.mark.parametrize(
    "given", ["", "10", "0s", "-1m", "m", "9" * 5000 + "s", 0, -1, float("nan"), float("inf"), True]
)
def test_what_is_no_duration_is_refused(given: str | float) -> None:
    with pytest.raises(UserError, match="expected a duration above 0"):
        Scale.of(timeout=given)


def test_a_duration_is_told_as_it_was_given() -> None:
    assert [str(Duration.of(given)) for given in ("1h30m", 90, 0.5)] == ["1h30m", "90s", "0.5s"]
    assert Duration.of("1h30m").seconds == 5400


@pytest.mark.parametrize("executor", ["serial", "ray"])
def test_what_cannot_be_killed_takes_no_timeout(executor: str) -> None:
    with pytest.raises(UserError, match="needs the executor processes"):
        api.evaluate("any", executor=executor, timeout="10m")


RAISES = """
from torch import nn

class Raises(nn.Module):
    def __init__(self, at):
        super().__init__()
        self.linear, self.at = nn.Linear(64, 10), at

    def forward(self, x):
        if len(x) == self.at:
            raise ValueError("the cat sat\\non the mat")
        return self.linear(x.flatten(1))
"""


@pytest.mark.parametrize("at", [16, 32])
def test_a_model_that_raises_without_an_attack_is_named(robench: Run, in_tmp: Path, at: int) -> None:
    Path("raises.py").write_text(RAISES + f"\ndef model():\n    return Raises({at})\n")
    ran = robench("eval", "--model", "raises.py:model", "--n", 20, "--attack", "fgsm")
    assert ran.code == 2
    assert ran.err == "robench: model raises-model failed on the first images: ValueError: the cat sat\n"
