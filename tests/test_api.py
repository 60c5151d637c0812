"""Python has the words of the command line, and both hand all of them on."""

import inspect
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

import robench
from robench import api
from robench.cli.main import COMMANDS
from robench.evaluation.plan import EvaluationOptions
from robench.utils.errors import UserError
from tests.helpers import Ran

NAMES = {"eval": "evaluate"}
"""Of functions, where the command is called otherwise."""

WITHOUT = {"list", "show", "doctor"}
"""Commands that only print."""

PLURAL = {"attack": "attacks", "source": "sources", "set_": "settings"}
"""Options that may be given many times, and the keywords that take them all at once."""

PRINTING = {"format", "fail_under", "dry_run"}
"""Options that decide what a command prints and how it exits."""

UNTYPED = {"reporter", "deadline"}
"""Keywords of what runs queues and benchmarks that a command makes for itself."""

WATCHING = {"progress", "reporter"}
"""Keywords that take an object to be told how it goes."""

SHARED = sorted(COMMANDS.keys() - WITHOUT)


def function(command: str) -> Callable[..., Any]:
    return getattr(robench, NAMES.get(command, command))  # type: ignore[no-any-return]


def words(call: Callable[..., Any]) -> dict[str, object]:
    """The names of its parameters with their defaults, a folder as a text and no list as None."""
    found = {name: each.default for name, each in inspect.signature(call).parameters.items()}
    return {
        PLURAL.get(name, name): str(default) if isinstance(default, Path) else None if default == () else default
        for name, default in found.items()
        if name not in PRINTING | WATCHING
    }


@pytest.mark.parametrize("command", SHARED)
def test_a_function_has_the_options_of_its_command_with_their_defaults(command: str) -> None:
    assert words(function(command)) == words(COMMANDS[command])


def test_the_options_of_an_evaluation_are_keywords_with_the_same_defaults() -> None:
    defaults = {each.name: each.default for each in fields(EvaluationOptions)}
    keywords = inspect.signature(robench.evaluate).parameters
    assert {name: keywords[name].default for name in defaults} == defaults


@pytest.mark.parametrize("command", ["eval", "verify", "train", "bench", "reproduce"])
def test_a_docstring_explains_every_keyword(command: str) -> None:
    documented = inspect.getdoc(function(command)) or ""
    if "The other keywords are those of `evaluate`" in documented:
        documented += inspect.getdoc(robench.evaluate) or ""
    named = inspect.signature(function(command)).parameters
    assert [name for name in named if not re.search(rf"^(.*, )?{name}\b.*:", documented, re.MULTILINE)] == []


SUBJECT: dict[str, Any] = {
    "dataset": "mnist",
    "data_root": Path("there"),
    "download": True,
    "eps": "0.3",
    "norm": "l2",
    "arch": "lenet",
    "mean": [0.1],
    "std": [0.2],
    "device": "cpu",
}
EVALUATED = SUBJECT | {
    "suite": "quick",
    "attacks": ["fgsm", "mim"],
    "n": 5,
    "sources": ["other.pt"],
    "mode": "worst-case",
    "protocol": "static",
    "draws": 3,
    "seed": 4,
    "batch_size": 6,
    "precision": "bfloat16",
}
TRAINED = {name: SUBJECT[name] for name in ("dataset", "data_root", "download", "eps", "norm", "arch")} | {
    "epochs": 2,
    "limit": 7,
    "labels": 8,
    "target": "svhn",
    "settings": {"beta": 9},
    "init": Path("before.pt"),
    "seed": 4,
    "precision": "bfloat16",
}
BENCHED = {name: SUBJECT[name] for name in ("dataset", "data_root", "download", "eps", "arch", "device")} | {
    "n": 5,
    "epochs": 2,
    "limit": 7,
    "labels": 8,
    "target": "svhn",
    "workers": 3,
    "results": Path("here"),
}
QUEUED = {name: SUBJECT[name] for name in ("data_root", "download", "device")} | {
    "only": "mnist-*",
    "results": Path("here"),
}

HANDED_ON: dict[str, tuple[tuple[str | Path, ...], Mapping[str, Any], str, str]] = {
    "eval": (("m.pt",), EVALUATED, "robench.evaluation.plan.plan_evaluation", "models.plan_evaluation"),
    "verify": (
        ("m.pt", Path("x.npz")),
        SUBJECT | {"eight_bit": True},
        "robench.evaluation.plan.plan_verification",
        "models.plan_verification",
    ),
    "train": (("trades",), TRAINED, "robench.training.plan.plan_training", "trainings.plan_training"),
    "bench": (("quickstart",), BENCHED, "robench.benchmarking.run.run", "benchmarks.run_benchmark"),
    "reproduce": (("reproduce",), QUEUED, "robench.benchmarking.queue.run", "benchmarks.run_queue"),
}
"""What is given first and by keyword, what a command calls with it, and what it is called in the API."""


@pytest.mark.parametrize("command", HANDED_ON)
def test_what_is_given_is_handed_on(
    command: str, robench: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch, in_tmp: Path
) -> None:
    first, given, called, imported = HANDED_ON[command]
    (in_tmp / "m.pt").touch()
    seen = []

    def call(*arguments: object, **keywords: object) -> None:
        seen.append((arguments, {name: value for name, value in keywords.items() if name not in UNTYPED}))
        raise UserError("that is all")

    monkeypatch.setattr(called, call)
    monkeypatch.setattr(f"robench.api.{imported}", call)
    ran = robench(command, *typed(command, first), *flags(given))
    assert "that is all" in ran.err
    with pytest.raises(UserError, match="that is all"):
        function(command)(*first, **given)
    assert seen[0] == seen[1]
    assert [value for value in given.values() if repr(value) not in repr(seen[0])] == []


def typed(command: str, first: tuple[str | Path, ...]) -> Iterator[str]:
    """The arguments that come first in Python, as they are typed."""
    options = {"eval": ("--model",), "verify": ("--model", "--adversarial"), "train": ("--defense",)}.get(command)
    for position, value in enumerate(first):
        yield from (options[position], str(value)) if options else (str(value),)


def flags(given: Mapping[str, Any]) -> Iterator[str]:
    """Keywords as they are typed."""
    for name, value in given.items():
        flag = "--" + {"attacks": "attack", "sources": "source", "settings": "set"}.get(name, name).replace("_", "-")
        if value is True:
            yield flag
        elif isinstance(value, dict):
            yield from (word for key, each in value.items() for word in (flag, f"{key}={each}"))
        elif isinstance(value, list):
            yield from (word for each in value for word in (flag, str(each)))
        else:
            yield from (flag, str(value))


def test_everything_public_is_listed() -> None:
    own = {
        name
        for name, value in vars(api).items()
        if not name.startswith("_") and str(getattr(value, "__module__", "")).startswith("robench.api.")
    }
    assert own <= set(api.__all__)
    assert set(robench.__all__) == {name for name in api.__all__ if inspect.isfunction(getattr(api, name))}
    assert {*robench.__all__, "__version__"} <= set(dir(robench))


def test_the_package_tells_its_version_and_names_without_torch() -> None:
    program = (
        "import sys, robench\n"
        "assert 'evaluate' in dir(robench)\n"
        "print(robench.__version__)\n"
        "assert 'torch' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == (f"{version('robench')}\n", "")


def test_the_command_line_tells_the_version(robench: Callable[..., Ran]) -> None:
    assert robench("--version") == Ran(0, f"robench {version('robench')}\n", "")


def test_an_attack_tells_an_editor_what_it_takes() -> None:
    taken = inspect.signature(robench.attack("pgd-20")).parameters
    assert list(taken) == ["model", "x", "y", "eps", "norm", "seed", "draws", "images", "sources", "training"]
