"""A type's name stands for one thing in all of robench, a module is read at one sitting, and paths in prose exist."""

import ast
import re
from collections import Counter
from pathlib import Path

import pytest

from tests import ROOT
from tests.test_imports import MODULES

PROTOCOLS = {"Executor"}
"""Each executor's class bears the name of the protocol that it fulfils, by which it is found."""


def test_no_type_name_stands_for_two_things() -> None:
    statements = [node for path in MODULES.values() for node in ast.parse(path.read_text()).body]
    found = Counter(node.name for node in statements if isinstance(node, ast.ClassDef))
    assert {name for name, count in found.items() if count > 1} - PROTOCOLS == set()


def test_no_module_is_above_400_lines() -> None:
    lengths = {name: len(path.read_text().splitlines()) for name, path in MODULES.items()}
    assert {name: length for name, length in lengths.items() if length > 400} == {}


PROSE = [
    *(path for folder in ("robench", "attacks", "defenses", "docs") for path in (ROOT / folder).rglob("*.[pm][yd]")),
    ROOT / "README.md",
]


@pytest.mark.parametrize("path", PROSE, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_files_of_robench_that_are_named_exist(path: Path) -> None:
    named = re.findall(r"\brobench/[\w/]+(?:\.py|/)", path.read_text())
    assert [name for name in named if not (ROOT / name).exists()] == []
