"""Which code is in the keys of rows and of trainings."""

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from robench.evaluation.evaluation import WORKER
from robench.evaluation.plan import EvaluationOptions, plan_evaluation
from robench.evaluation.run import run
from robench.search.catalog import attack
from robench.training.loop import train
from robench.utils import code
from robench.utils.code import EXEMPT, code_fingerprint, reached
from tests.helpers import Trained
from tests.training.test_loop import plan

ROOT = Path(code.__file__).resolve().parents[1]
TRAINING = code.file_of("robench.training.loop")


def copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, change: Callable[[str], str]) -> str:
    """The engine's fingerprint where one of its files was changed."""
    for path in ROOT.rglob("*.py"):
        here = tmp_path / path.relative_to(ROOT)
        here.parent.mkdir(parents=True, exist_ok=True)
        here.write_text(path.read_text())
    text = (tmp_path / name).read_text()
    changed = change(text)
    assert changed != text
    (tmp_path / name).write_text(changed)
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(code, "_ROOT", tmp_path.resolve())
        code_fingerprint.cache_clear()
        found = code_fingerprint(tmp_path / "evaluation/run.py")
    code_fingerprint.cache_clear()
    return found


SPLIT = ("from robench.search.attack import Attack", "from robench.search.attack import (\n    Attack,\n)")

CHANGES: dict[str, tuple[str, Callable[[str], str], bool]] = {
    "a comparison": (
        "search/prefix.py",
        lambda text: text.replace("_steps(attack) < _steps(other)", "_steps(attack) <= _steps(other)"),
        True,
    ),
    "the judged model": (
        "evaluation/evaluation.py",
        lambda text: text.replace("(self.subject.undefended", "(None"),
        True,
    ),
    "an executor": ("evaluation/executors/processes.py", lambda text: text.replace("RETRIES = 2", "RETRIES = 3"), True),
    "the other process": ("search/libraries/worker.py", lambda text: text + "\nMORE = 1\n", True),
    "a resizing": ("data/resize.py", lambda text: text + "\nMORE = 1\n", True),
    "what a name stands for": (
        "search/judge.py",
        lambda text: text + "\nfrom robench.losses import dlr as margin\n",
        True,
    ),
    "a comment": ("search/prefix.py", lambda text: text + "\n# more\n", False),
    "a docstring": (
        "search/prefix.py",
        lambda text: text.replace('"""Attacks that differ', '"""Those that differ'),
        False,
    ),
    "an import's place": (
        "search/prefix.py",
        lambda text: f"import robench.search.attack\n{text.replace(*SPLIT)}",
        False,
    ),
    "an exempt module": ("ledger/store.py", lambda text: text + "\nMORE = 1\n", False),
}


@pytest.mark.parametrize("kind", CHANGES)
def test_code_is_in_the_key_and_imports_and_words_are_not(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, change, counts = CHANGES[kind]
    changed = copied(tmp_path, monkeypatch, name, change)
    assert (changed != code_fingerprint(WORKER)) == counts


def test_where_a_module_lies_decides_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def moved(text: str) -> str:
        (tmp_path / "deeper").mkdir()
        (tmp_path / "search" / "rng.py").rename(tmp_path / "deeper" / "random_numbers.py")
        for path in tmp_path.rglob("*.py"):
            path.write_text(path.read_text().replace("robench.search.rng", "robench.deeper.random_numbers"))
        return text.replace("robench.search.rng", "robench.deeper.random_numbers")

    assert copied(tmp_path, monkeypatch, "evaluation/worker.py", moved) == code_fingerprint(WORKER)


def test_what_a_module_is_called_where_it_is_used_decides_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def moved(text: str) -> str:
        (tmp_path / "deeper").mkdir()
        (tmp_path / "deeper" / "__init__.py").write_text('"""Things."""\n')
        (tmp_path / "utils" / "registry.py").rename(tmp_path / "deeper" / "finding.py")
        for path in tmp_path.rglob("*.py"):
            path.write_text(renamed(path.read_text()))
        return renamed(text)

    def renamed(text: str) -> str:
        text = text.replace("robench.utils.registry", "robench.deeper.finding")
        if "from robench.utils import registry" not in text:
            return text
        text = text.replace("from robench.utils import registry", "from robench.deeper import finding")
        return re.sub(r"\bregistry\.", "finding.", text)

    monkeypatch.setitem(EXEMPT, "deeper.finding", "finds files by name")
    assert copied(tmp_path, monkeypatch, "search/catalog.py", moved) == code_fingerprint(WORKER)


def test_which_module_a_name_is_of_decides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def other(text: str) -> str:
        (tmp_path / "losses.py").write_text((tmp_path / "losses.py").read_text().replace("def margin(", "def old("))
        (tmp_path / "another.py").write_text("def margin(logits, y):\n    return -logits[:, 0]\n")
        return text.replace("import are_decided, margin", "import are_decided\nfrom robench.another import margin")

    assert copied(tmp_path, monkeypatch, "search/judge.py", other) != code_fingerprint(WORKER)


def names(files: set[Path]) -> set[str]:
    own = [path for path in files if path.is_relative_to(ROOT)]
    return {path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".") for path in own}


def executed(call: Callable[[], Any]) -> set[str]:
    """The modules of robench whose functions are called."""
    found: set[str] = set()

    def see(frame: Any, event: str, _: Any) -> None:
        if event == "call":
            found.add(frame.f_code.co_filename)

    sys.setprofile(see)
    try:
        call()
    finally:
        sys.setprofile(None)
    return names({Path(file).resolve() for file in found})


def accounted(*starts: Path) -> set[str]:
    """The modules that are in a key or exempt."""
    return names(reached(starts)) | set(EXEMPT) | {f"{name}.__init__" for name in EXEMPT} | set(READERS)


READERS = {
    "ledger.per_example": "ledger.summary",
    "ledger.evidence": "ledger.summary",
    "ledger.verdict": "ledger.summary",
    "utils.stats": "ledger.summary",
    "models.transformed": "training.loop",
}
"""What an exempt module alone calls, by that module's name."""


def test_all_that_runs_in_an_evaluation_is_in_the_key_or_exempt(digits_model: Trained, tmp_path: Path) -> None:
    evaluation = plan_evaluation(digits_model.model, EvaluationOptions(attacks=["pgd:steps=2"], n=8, eps=0.1))
    ran = executed(lambda: run(evaluation, tmp_path))
    assert {"evaluation.run", "search.search", "search.judge", "evaluation.rows", "search.prefix"} <= ran
    assert ran - accounted(WORKER, ROOT / "models" / "digit_cnn.py") == set()


def test_all_that_runs_in_a_training_is_in_the_key_or_exempt(tmp_path: Path) -> None:
    planned = plan(epochs=1)
    ran = executed(lambda: train(planned, tmp_path / "m.pt"))
    own = [ROOT.parent / "defenses" / "pgd_at.py", ROOT / "models" / f"{planned.recipe.setup.arch}.py"]
    assert {"training.loop", "training.inner_max", "training.selection"} <= ran
    assert ran - accounted(TRAINING, *own) == set()


def test_every_exempt_module_is_there() -> None:
    assert all(code._file_of(name) for name in EXEMPT)


def test_the_file_of_an_attack_and_what_it_imports_is_in_its_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    text = (
        "import attack_helper\nfrom robench.search import sees\nfrom robench.search import Search\n\n\n"
        '@sees("labels")\ndef mine(search: Search, *, steps: int = 1) -> None:\n    attack_helper.go(search)\n'
    )
    found = []
    for number, (own, helper) in enumerate([("", "x.clone()"), ("# a comment\n", "x.clone()"), ("", "x + 0")]):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "mine.py").write_text(own + text)
        (folder / "attack_helper.py").write_text(f"def go(search):\n    search.offer(search.{helper})\n")
        monkeypatch.syspath_prepend(folder)
        monkeypatch.delitem(sys.modules, "attack_helper", raising=False)
        configured = attack(f"{folder / 'mine.py'}")
        assert configured.hidden == []
        found.append(configured.key())
    assert found[0] == found[1] != found[2]
