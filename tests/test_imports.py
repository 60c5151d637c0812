"""Imports of robench run one way, through the rooms of README's tree, and what only reads loads no torch."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1] / "robench"

ORDER = (
    *("utils", "threat", "losses", "access", "specs", "data", "models", "ledger", "training", "search"),
    *("attacks", "defenses", "evaluation", "reports", "benchmarking", "cli", "api"),
)
"""The rooms from below: each imports of those before it."""

FOLDER = re.compile(r"robench(\.\w+)+\.")
"""A text to which `import_module` adds the name of a module."""

TORCHLESS = ("specs", "ledger", "reports")

WITH_TORCH = {"ledger.provenance"}
"""Modules of these that do load it, for a run's manifest."""


def modules() -> dict[str, Path]:
    """Every module by its name below robench; a package's by that of its folder."""
    found = {}
    for path in ROOT.rglob("*.py"):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    del found[""], found["__main__"]
    return found


MODULES = modules()


@cache
def imports(name: str, *, at_once: bool = False) -> frozenset[str]:
    """The modules of robench that one imports, or loads by a name in a text; `at_once`: as it is loaded itself."""
    tree = ast.parse(MODULES[name].read_text())
    nodes = _outermost(tree) if at_once else ast.walk(tree)
    return frozenset(found for node in nodes for found in _imported(node)) - {name}


def _outermost(tree: ast.Module) -> Iterator[ast.stmt]:
    """Statements that run on import: none in a function or under TYPE_CHECKING."""
    waiting = list(tree.body)
    while waiting:
        node = waiting.pop()
        yield node
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            typed = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
            waiting += [] if typed else [each for each in ast.iter_child_nodes(node) if isinstance(each, ast.stmt)]


def _imported(node: ast.AST) -> Iterator[str]:
    names: list[str] = []
    if isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom) and node.module:
        names = [f"{node.module}.{alias.name}" for alias in node.names]
    elif isinstance(node, ast.Constant) and isinstance(node.value, str) and FOLDER.fullmatch(node.value):
        names = [f"robench.{name}" for name in MODULES if f"robench.{name}".startswith(node.value)]
    for name in names:
        if name == "torch" or name.startswith("torch."):
            yield "torch"
        if name.startswith("robench."):
            below = name.removeprefix("robench.")
            found = next((each for each in (below, below.rpartition(".")[0]) if each in MODULES), None)
            if found:
                yield found


def room(name: str) -> str:
    return name.partition(".")[0]


def test_every_room_has_its_place() -> None:
    assert {room(name) for name in MODULES} == set(ORDER)


@pytest.mark.parametrize("name", sorted(MODULES))
def test_no_import_runs_upwards(name: str) -> None:
    above = ORDER[ORDER.index(room(name)) + 1 :]
    assert [other for other in sorted(imports(name)) if room(other) in above] == []


def test_what_only_reads_loads_no_torch() -> None:
    for name in MODULES:
        if room(name) in TORCHLESS and name not in WITH_TORCH:
            assert "torch" not in reached(name), name


def reached(name: str) -> set[str]:
    """What is loaded with a module: what it imports at once, with the packages that these lie in, and so on."""
    found: set[str] = set()
    waiting = [name]
    while waiting:
        if (each := waiting.pop()) in found:
            continue
        found.add(each)
        if each in MODULES:
            waiting += imports(each, at_once=True)
            if package := each.rpartition(".")[0]:
                waiting.append(package)
    return found


def test_no_module_leads_back_to_itself() -> None:
    """By whatever imports, those in functions and by a name in a text too."""
    assert [name for name in sorted(MODULES) if name in _after(name)] == []


def _after(name: str) -> set[str]:
    found: set[str] = set()
    waiting = list(imports(name))
    while waiting:
        each = waiting.pop()
        if each in MODULES and each not in found:
            found.add(each)
            waiting += imports(each)
    return found
