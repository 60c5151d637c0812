"""Short hashes of what could change a number."""

import ast
import hashlib
import json
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any


def fingerprint(value: dict[str, Any]) -> str:
    """16 hexadecimal digits of the SHA-256 of a JSON-like value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:16]


def source_fingerprint(paths: Iterable[Path]) -> str:
    """One hash of Python files that ignores comments, docstrings and layout, and what the files are called."""
    digest = hashlib.sha256()
    for path in paths:
        digest.update(_normalised(path))
    return digest.hexdigest()[:16]


@cache
def _normalised(path: Path) -> bytes:
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            node.body = [statement for statement in node.body if not _is_docstring(statement)] or [ast.Pass()]
    return ast.unparse(tree).encode()


def _is_docstring(statement: ast.stmt) -> bool:
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )
