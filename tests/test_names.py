"""A type's name stands for one thing in all of robench, and a module is read at one sitting."""

import ast
from collections import Counter

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
