"""Whatever the functions of the Python interface are called with, they end in an answer or in one sentence."""

import inspect
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import robench
from robench.utils.arguments import checked
from robench.utils.errors import UserError
from tests.helpers import Trained


class Odd:
    """What nobody expects, with a name that cannot be printed."""

    def __repr__(self) -> str:
        raise RuntimeError("no name")


ODD: list[Any] = [
    None,
    True,
    0,
    -1,
    3,
    2**70,
    0.5,
    -0.1,
    float("nan"),
    float("inf"),
    "",
    "nonsense",
    "../\0",
    "x" * 5000,
    b"bytes",
    [],
    ["nonsense"],
    [0.5, "a"],
    [float("nan")],
    {},
    {"a": 1},
    (1, 2),
    set(),
    Path("nowhere"),
    Path("."),
    np.zeros(3),
    np.float32(0.5),
    np.int64(2),
    torch.zeros(2, 2),
    object(),
    Odd(),
    nn.Identity(),
    lambda: None,
    int,
]

FEW: list[Any] = [None, -1, 2**70, 0.5, float("nan"), "nonsense", "../\0", ["nonsense"], {}, np.zeros(3), Odd()]

EVALUATE = [name for name in inspect.signature(robench.evaluate).parameters if name != "progress"]
VERIFY = list(inspect.signature(robench.verify).parameters)
TRAIN = [name for name in inspect.signature(robench.train).parameters if name != "progress"]
BENCH = [name for name in inspect.signature(robench.bench).parameters if name != "reporter"]
REPRODUCE = [name for name in inspect.signature(robench.reproduce).parameters if name != "reporter"]


def outcome(call: Callable[..., Any], *arguments: Any, **options: Any) -> str:
    """What a call ends in; the sentence, where it is refused."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            call(*arguments, **options)
    except UserError as error:
        sentence = str(error)
        assert sentence
        assert "\n" not in sentence
        assert "Traceback" not in sentence
        return sentence
    return "answered"


@pytest.fixture(params=[pytest.param(FEW, id="few"), pytest.param(ODD, id="all", marks=pytest.mark.slow)])
def odd(request: pytest.FixtureRequest) -> list[Any]:
    """What an argument is given in turn."""
    values: list[Any] = request.param
    return values


@pytest.fixture
def planned(monkeypatch: pytest.MonkeyPatch, in_tmp: Path) -> None:
    """Everything up to the first pass of a run; what comes after has been checked."""
    for run in ("models.run_evaluation", "benchmarks.run_benchmark", "benchmarks.run_queue"):
        monkeypatch.setattr(f"robench.api.{run}", lambda *_, **__: None)
    monkeypatch.setattr("robench.training.loop.train", lambda *_, **__: None)


@pytest.mark.parametrize("name", EVALUATE)
def test_evaluate(name: str, digits_model: Trained, planned: None, odd: list[Any]) -> None:
    for value in odd:
        outcome(robench.evaluate, **{"model": digits_model.model, "attacks": ["fgsm"], "device": "cpu", name: value})


@pytest.mark.parametrize("name", VERIFY)
def test_verify(name: str, digits_model: Trained, planned: None, odd: list[Any]) -> None:
    np.savez("found.npz", x_adv=digits_model.split.floats(slice(3)).numpy(), ids=np.arange(3))
    for value in odd:
        outcome(robench.verify, **{"model": digits_model.model, "adversarial": "found.npz", "eps": 0.1, name: value})


@pytest.mark.parametrize("name", TRAIN)
def test_train(name: str, planned: None, odd: list[Any]) -> None:
    for value in odd:
        outcome(robench.train, **{"defense": "standard", "device": "cpu", "out": "m.pt", name: value})


@pytest.mark.parametrize("name", BENCH)
def test_bench(name: str, planned: None, odd: list[Any]) -> None:
    for value in odd:
        outcome(robench.bench, **{"name": "quickstart", name: value})


@pytest.mark.parametrize("name", REPRODUCE)
def test_reproduce(name: str, planned: None, odd: list[Any]) -> None:
    for value in odd:
        outcome(robench.reproduce, **{name: value})


@pytest.mark.parametrize("call", ["leaderboard", "table", "figure", "compare", "attack", "load_model"])
def test_the_others(call: str, in_tmp: Path, odd: list[Any]) -> None:
    for value in odd:
        for name, each in inspect.signature(getattr(robench, call)).parameters.items():
            given = {"first": "a", "second": "b", "id": "adt-table1", "name": "fgsm", "model": nn.Identity()}
            needed = [word for word, other in inspect.signature(getattr(robench, call)).parameters.items()]
            words = {word: given[word] for word in needed if word in given}
            assert each.name == name
            outcome(getattr(robench, call), **{**words, name: value})


@pytest.mark.parametrize("name", list(inspect.signature(robench.attack("fgsm")).parameters))
def test_an_attack(name: str, digits_model: Trained, in_tmp: Path, odd: list[Any]) -> None:
    x, y = digits_model.split.floats(slice(2)), digits_model.split.labels[:2]
    for value in odd:
        outcome(robench.attack("fgsm"), **{"model": digits_model.model, "x": x, "y": y, "eps": 0.1, name: value})


def test_a_word_of_another_program_is_no_type_error(digits_model: Trained) -> None:
    for call in (robench.evaluate, robench.train, robench.bench, robench.table):
        assert "unexpected keyword argument 'epsilon'" in outcome(call, "x", epsilon=0.1)
    assert "missing a required argument: 'model'" in outcome(robench.evaluate)
    assert "expected attacks as a list of text, got 'pgd-20'" in outcome(
        robench.evaluate, digits_model.model, attacks="pgd-20"
    )


def test_numbers_of_arrays_are_numbers() -> None:
    @checked
    def call(n: int, eps: str | float | None = None, mean: "list[float] | None" = None) -> Any:
        return n, eps, mean

    assert call(np.int64(3), np.float32(0.5)) == (3, 0.5, None)  # type: ignore[arg-type]
    assert call(torch.tensor(3)) == (3, None, None)  # type: ignore[arg-type]
    for wrong in (3.5, True, "3", None, np.array([1, 2])):
        with pytest.raises(UserError, match="expected n as a whole number"):
            call(wrong)  # type: ignore[arg-type]
