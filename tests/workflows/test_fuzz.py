"""Odd words for every option of every command: each line ends in one of robench's exit codes and in a sentence.

`pytest -m slow tests/workflows/test_fuzz.py` runs all of the table, and random lines beside it; the suite a part of it.
"""

import inspect
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args, get_type_hints

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.models import ArgumentInfo, OptionInfo

from robench.cli.main import COMMANDS
from robench.models import build, checkpoint
from robench.models.checkpoint import Card
from tests import ledgers
from tests.helpers import Ran

Run = Callable[..., Ran]
Line = tuple[str, ...]

CODES = {0, 1, 2, 130, 143}

LONG = "x" * 5000
TEXTS = ("", " ", LONG, "a\0b", "\x1b[31mred", "[bold]", "é" * 300, "-1", "nan", "*", "{a: [", "x" * 250 + ".yaml")
PATHS = ("", LONG, "a\0b", "/dev/null", "/dev/null/x", ".", "a-file", "a-file/x", "a-folder", "gone", "\x1b[31m")
COUNTS = ("-1", "0", "", "1.5", "nan", "1e3", "0x10", "9" * 40, str(10**30), "9" * 5000, "٣")
SHARES = ("-1", "nan", "inf", "1e400", "2", "")
SIZES = ("0", "-1", "nan", "1e400", "1/0", "8//255", "eps", LONG, "", "\x1b[31m", "1e-400")
SETTINGS = ("", "=", "a", "steps=", "lr=nan", "lr=1e400", f"epochs={10**20}", "lr=" + "[" * 3000, "seed=2024-13-45")
ATTACKS = (
    *(f"pgd-20:steps={value}" for value in (10**20, -1, 0, "nan", "[" * 3000, "[1,2]", "", "1e400", "9" * 5000)),
    *(f"pgd-20:restarts={value}" for value in (10**9, 10**30, 0, "x")),
    *("pgd-20:a=b", "pgd-20:", ":", "nothing", "a-file.py", "a-folder.py", "foolbox:", "foolbox:nothing", LONG, "a\0b"),
)
OF_NAME = {
    **dict.fromkeys(("eps", "mean", "std"), SIZES),
    **dict.fromkeys(("set_",), SETTINGS),
    **dict.fromkeys(("attack",), ATTACKS),
    **dict.fromkeys(("model", "source", "dataset", "target", "defense", "queue"), (*TEXTS, *PATHS)),
}
"""Values by an option's name; of others by its type."""

BASES: dict[str, Line] = {
    "bench": ("small.yaml",),
    "reproduce": ("reproduce", "--only", "nothing-*", "--dry-run"),
    "train": ("--defense", "standard", "--limit", "20", "--epochs", "1", "--dataset", "npz:gone.npz"),
    "eval": ("--model", "model.pt", "--attack", "fgsm", "--n", "4", "--dry-run"),
    "verify": ("--model", "model.pt", "--adversarial", "x.npz"),
    "leaderboard": (),
    "compare": ("m", "o"),
    "table": ("adt-table1",),
    "figure": ("ald-fig5",),
    "list": ("attacks",),
    "show": ("attack", "pgd-20"),
    "doctor": (),
}
"""A line of each command that is right, or ends early."""


@dataclass(frozen=True)
class Parameter:
    """An option of a command or, with no word before it, an argument."""

    name: str
    kind: Any
    word: str

    @property
    def values(self) -> Sequence[str]:
        kinds = {self.kind, *get_args(self.kind)} | {each for kind in get_args(self.kind) for each in get_args(kind)}
        if self.name in OF_NAME:
            return OF_NAME[self.name]
        if int in kinds:
            return COUNTS
        if float in kinds:
            return SHARES
        words = [each for each in kinds if isinstance(each, str)]
        return [*sorted(words), "other", "", LONG] if words else PATHS if Path in kinds else TEXTS


def parameters(command: Callable[..., None]) -> list[Parameter]:
    found = []
    for name, hint in get_type_hints(command, include_extras=True).items():
        if name == "return":
            continue
        info = next((each for each in get_args(hint) if isinstance(each, OptionInfo | ArgumentInfo)), None)
        has_default = inspect.signature(command).parameters[name].default is not inspect.Parameter.empty
        kind = get_args(hint)[0] if info else hint
        argument = isinstance(info, ArgumentInfo) or (info is None and not has_default)
        spelled = [each for each in (getattr(info, "param_decls", None) or ()) if each.startswith("--")]
        word = "" if argument else (*spelled, "--" + name.strip("_").replace("_", "-"))[0]
        found.append(Parameter(name, kind, word))
    return found


def lines() -> Iterator[Line]:
    """Every option of every command with every odd value, in a line that is right otherwise."""
    for name, command in COMMANDS.items():
        given = parameters(command)
        arguments = [each.name for each in given if not each.word]
        for parameter in given:
            if parameter.kind is bool:
                yield (name, *BASES[name], parameter.word)
                continue
            for value in parameter.values:
                base = list(BASES[name])
                if parameter.word:
                    base += [parameter.word]
                    yield (name, *base, value)
                else:
                    base[arguments.index(parameter.name)] = value
                    yield (name, *base)


TABLE = list(lines())
LIGHT = [line for line in TABLE if line[0] not in ("bench", "doctor", "eval", "verify", "train")]


def test_every_command_has_a_base() -> None:
    assert set(BASES) == set(COMMANDS)
    assert len(TABLE) > 900


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the lines name."""
    folder = tmp_path_factory.mktemp("place")
    card = Card("digit_cnn", [1, 8, 8], 10, [0.0], [1.0], "digits", "linf", "0.08", "standard", {}, 0)
    checkpoint.save(folder / "model.pt", build("digit_cnn", (1, 8, 8), 10), card)
    ledgers.clean(folder / "results")
    ledgers.write(folder / "results", "fgsm", ledgers.fooled(1))
    ledgers.clean(folder / "results", model="o")
    (folder / "small.yaml").write_text("models: [model.pt]\nattacks: [fgsm]\nn: 4\n")
    (folder / "a-folder").mkdir()
    (folder / "a-file").write_text("\x00\xff not what is meant\n", encoding="latin-1")
    (folder / "a-file.py").write_text("raise ValueError('the cat sat')\n")
    np.savez(folder / "x.npz", x_adv=np.zeros((2, 1, 8, 8), np.float32), ids=np.arange(2))
    return folder


def check(line: Line, robench: Run) -> None:
    ran = robench(*line)
    assert ran.code in CODES, (line, ran)
    assert "Traceback" not in ran.err, (line, ran.err)
    if ran.code == 2:
        assert ran.err.strip(), line
        assert len(ran.err) < 20_000, line


@pytest.fixture
def there(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(place)
    return place


@pytest.mark.parametrize("line", random.Random(0).sample(LIGHT, 120), ids=lambda line: repr(line)[:60])
def test_odd_words_of_commands_that_read_end_in_a_sentence(line: Line, robench: Run, there: Path) -> None:
    check(line, robench)


REFUSED = [line for line in TABLE if line[0] in ("eval", "train") and line[-2] in ("--attack", "--set", "--eps", "--n")]


@pytest.mark.parametrize("line", random.Random(0).sample(REFUSED, 24), ids=lambda line: repr(line)[:60])
def test_odd_settings_are_refused(line: Line, robench: Run, there: Path) -> None:
    check(line, robench)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_all_of_the_table(name: str, robench: Run, there: Path) -> None:
    for line in (line for line in TABLE if line[0] == name):
        check(line, robench)


WORDS = st.one_of(
    st.sampled_from(sorted({value for line in TABLE for value in line})),
    st.text(max_size=20),
    st.integers().map(str),
    st.floats().map(str),
)


@pytest.mark.slow
@settings(max_examples=600, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_random_lines(data: st.DataObject, robench: Run, there: Path) -> None:
    name = data.draw(st.sampled_from(sorted(COMMANDS)))
    chosen = data.draw(st.lists(st.sampled_from(parameters(COMMANDS[name])), max_size=3))
    words = [word for each in chosen for word in (each.word, data.draw(WORDS)) if word]
    check((name, *BASES[name], *words), robench)
