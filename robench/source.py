"""A hash of source code that ignores what cannot change a number: comments, docstrings, layout."""

import ast
import hashlib
from collections.abc import Iterable
from functools import cache
from pathlib import Path


def source_fingerprint(paths: Iterable[Path]) -> str:
    """One hash of Python files: of what they do, not of how they lie or are called."""
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
