"""Which of robench's own code decides a number: every module that imports lead to from where it is made, less a few.

No list to keep: a file that is added, or moved, is found by the imports of those that use it.
"""

import ast
import hashlib
import re
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

from robench import content
from robench.fingerprints import without_docstrings

EXEMPT = {
    "answers": "compares what was found with what is found now",
    "atomic": "writes files",
    "checkpoint": "reads and writes weights, which are in the key of a model",
    "code": "makes keys",
    "content": "finds files by name; what they hold is in the key",
    "deadline": "ends a run early",
    "description": "makes keys",
    "diagnosis": "has a cell, and a key, of its own",
    "errors": "words",
    "fingerprints": "makes keys",
    "ledger": "stores rows as they are",
    "metrics": "writes what is plotted of a training",
    "models": "finds networks by name; the code of each is in the key of what it is part of",
    "parcel": "carries objects to another process as they are",
    "provenance": "writes down what ran",
    "recipe": "reads settings, which are in the key of a training",
    "signs": "reads what a diagnosis found",
    "settings": "reads settings, which are in keys",
    "subject": "loads a model, which is described in its key",
    "summary": "reads rows",
}
"""Modules of robench that no key needs, with the reason; nor what only they import."""

_ROOT = Path(__file__).parent
_MODULE = re.compile(r"robench(\.\w+)+\.?")


@cache
def code_fingerprint(*files: Path) -> str:
    """A hash of these files of robench and of all its modules that their imports lead to, but for `EXEMPT` ones.

    Comments, docstrings, layout, the names of files and where robench's own modules lie decide nothing: of an import of
    robench's own only a name given with `as` counts.
    """
    hashes = sorted({_read(file)[0] for file in reached(files)})
    return hashlib.sha256("".join(hashes).encode()).hexdigest()[:16]


def reached(files: Iterable[Path]) -> set[Path]:
    """These files and those of robench's modules that their imports lead to, not through an `EXEMPT` one."""
    found: set[Path] = set()
    waiting = [file.resolve() for file in files]
    while waiting:
        file = waiting.pop()
        if file not in found:
            found.add(file)
            waiting += [path for name in _read(file)[1] if name not in EXEMPT and (path := _file_of(name))]
    return found


@cache
def _read(file: Path) -> tuple[str, frozenset[str]]:
    """The hash of a file, and the modules of robench that it imports, by their names below robench."""
    tree = without_docstrings(ast.parse(file.read_text()))
    imported = {name for node in ast.walk(tree) for name in _imported(node)}
    source = ast.unparse(_WithoutOwnImports().visit(tree))
    return hashlib.sha256(source.encode()).hexdigest(), frozenset(imported)


def _imported(node: ast.AST) -> Iterator[str]:
    """The names after "robench." of what a statement imports, a module's or of a thing in one; a text that names a
    module, or all of a folder ("robench.executors."), may be imported as well."""
    names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
    if isinstance(node, ast.ImportFrom) and node.module:
        names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    if isinstance(node, ast.Constant) and isinstance(node.value, str) and _MODULE.fullmatch(node.value):
        names = [node.value]
        if node.value.endswith("."):
            names = [f"{node.value}{path.stem}" for path in _ROOT.joinpath(*node.value.split(".")[1:]).glob("*.py")]
    yield from (name.removeprefix("robench.") for name in names if name.startswith("robench."))


def _file_of(name: str) -> Path | None:
    """The file of the module robench.`name`; None where that is no module."""
    first, *rest = name.split(".")
    folder = content.folder(first) if first in ("attacks", "defenses") else _ROOT / first  # type: ignore[arg-type]
    base = folder.joinpath(*rest)
    for path in (base.with_suffix(".py"), base / "__init__.py"):
        if path.is_file():
            return path.resolve()
    return None


class _WithoutOwnImports(ast.NodeTransformer):
    """Leaves of an import of robench's own what it is called here, where that is another name."""

    def generic_visit(self, node: ast.AST) -> ast.AST:
        visited = super().generic_visit(node)
        if getattr(visited, "body", None) == []:
            visited.body = [ast.Pass()]  # type: ignore[attr-defined]
        return visited

    def visit_Import(self, node: ast.Import) -> ast.AST | None:
        return _renamings(node.names) if all(_is_own(alias.name) for alias in node.names) else node

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.AST | None:
        return _renamings(node.names) if _is_own(node.module or "") else node


def _is_own(module: str) -> bool:
    return module == "robench" or module.startswith("robench.")


def _renamings(names: list[ast.alias]) -> ast.AST | None:
    renamed = sorted(f"{alias.asname}={alias.name.rpartition('.')[2]}" for alias in names if alias.asname)
    return ast.Expr(ast.Constant(" ".join(renamed))) if renamed else None
