"""Short hashes of what could change a number."""

import ast
import hashlib
import json
import sys
from collections.abc import Iterable
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
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
def library_imports(path: Path) -> dict[str, str]:
    """The versions of the libraries that a Python file imports, beside torch and NumPy."""
    imported = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        imported |= {name.partition(".")[0] for name in names}
    versions = {}
    for name in sorted(imported - sys.stdlib_module_names - {"robench", "torch", "numpy", ""}):
        with suppress(PackageNotFoundError):
            versions[name] = version(name)
    return versions


@cache
def _normalised(path: Path) -> bytes:
    return ast.unparse(without_docstrings(ast.parse(path.read_text()))).encode()


def without_docstrings(tree: ast.Module) -> ast.Module:
    """The tree itself, its docstrings removed."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            node.body = [statement for statement in node.body if not _is_docstring(statement)] or [ast.Pass()]
    return tree


def _is_docstring(statement: ast.stmt) -> bool:
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )
