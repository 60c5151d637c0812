"""Which of robench's own code decides a number: every module that imports lead to from where it is made, less a few.

No list to keep: a file that is added, or moved, is found by the imports of those that use it.
"""

import ast
import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePath

from robench.utils import registry
from robench.utils.fingerprints import without_docstrings

_DESCRIPTION = (
    *("attributes", "bytecode", "classes", "functions", "networks"),
    *("objects", "origin", "references", "tensors", "walk"),
)

_FILES = ("formats", "reading", "outline", "contents", "candidates", "normalisation", "values", "beside", "weights")

EXEMPT = {
    "evaluation.answers": "compares what was found with what is found now",
    "utils.files": "writes files",
    "models.checkpoint": "reads and writes weights, which are in the key of a model",
    **dict.fromkeys((f"models.files.{part}" for part in _FILES), "reads weights, which are in keys"),
    "models.users_code": "calls what makes a network, which is in keys",
    "utils.code": "makes keys",
    "utils.neighbours": "imports users' files; what they hold is in the key",
    "utils.registry": "finds files by name; what they hold is in the key",
    "data.catalog": "finds data sets by name; their images are in the key",
    "data.readers": "reads images, which are in the key",
    "utils.deadline": "ends a run early",
    "models.description": "makes keys",
    **dict.fromkeys((f"models.description.{part}" for part in _DESCRIPTION), "makes keys"),
    "evaluation.diagnosis": "has a cell, and a key, of its own",
    "utils.errors": "words",
    "utils.fingerprints": "makes keys",
    "utils.text": "words",
    "ledger.sealing": "stores rows as they are",
    "ledger.cell": "stores rows as they are",
    "ledger.parts": "stores rows as they are",
    "ledger.radius": "words",
    "ledger.schema": "names the columns of rows",
    "ledger.store": "finds cells by their keys",
    "training.difference": "words",
    "training.epoch_log": "writes what is plotted of a training",
    "models": "finds networks by name; the code of each is in the key of what it is part of",
    "utils.serialize": "carries objects to another process as they are",
    "ledger.provenance": "writes down what ran",
    "training.recipe": "reads settings, which are in the key of a training",
    "ledger.signs": "reads what a diagnosis found",
    "utils.settings": "reads settings, which are in keys",
    **dict.fromkeys(
        ("evaluation.target", "evaluation.from_file", "evaluation.said", "evaluation.subject"),
        "loads a model, which is described in its key",
    ),
    "ledger.summary": "reads rows",
}
"""Modules of robench that no key needs, with the reason; nor what only they import."""

_ROOT = Path(__file__).parents[1]
_MODULE = re.compile(r"robench(\.\w+)+\.?")


@cache
def code_fingerprint(*files: Path) -> str:
    """A hash of these files of robench and of all its modules that their imports lead to, but for `EXEMPT` ones.

    Comments, docstrings, layout, the names of files and where robench's own modules lie decide nothing: a module is
    known by its code, so one that moves leaves the hash as it was, and a name imported from another module changes it.
    """
    hashes = sorted({_read(file).hash for file in reached(files)})
    return hashlib.sha256("".join(hashes).encode()).hexdigest()[:16]


def reached(files: Iterable[Path]) -> set[Path]:
    """These files and those of robench's modules that their imports lead to, not through an `EXEMPT` one."""
    found: set[Path] = set()
    waiting = [file.resolve() for file in files]
    while waiting:
        file = waiting.pop()
        if file not in found:
            found.add(file)
            waiting += [path for name in _read(file).imported if name not in EXEMPT and (path := _file_of(name))]
    return found


@dataclass(frozen=True)
class _Source:
    """A file: its hash, and the modules of robench that it imports, by their names below robench."""

    hash: str
    imported: frozenset[str]


@cache
def _read(file: Path) -> _Source:
    tree = _tree(file)
    own = list(_own_imports(tree))
    named = {name for node in ast.walk(tree) for name in _named(node)}
    origins = sorted(f"{each.bound}={each.name}={_code_of(each.module)}" for each in own if not each.is_module)
    modules = {each.bound: f"module_{_code_of(each.module)}" for each in own if each.is_module}
    source = "\n".join([*origins, ast.unparse(_Placeless(modules).visit(tree))])
    imported = {*named, *(each.module for each in own)}
    packages = {str(parent) for name in imported for parent in PurePath(name.replace(".", "/")).parents}
    imported |= {name for name in (package.replace("/", ".") for package in packages) if _has_code(name)}
    return _Source(hashlib.sha256(source.encode()).hexdigest(), frozenset(imported))


def _has_code(package: str) -> bool:
    """Whether the `__init__` of a package does more than say what it is and hand on names."""
    file = _file_of(package) if package != "." else None
    tree = _tree(file) if file else ast.Module([], [])
    return not all(isinstance(node, ast.Import | ast.ImportFrom | ast.Pass) or _lists_names(node) for node in tree.body)


def _lists_names(node: ast.stmt) -> bool:
    return isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"


def _tree(file: Path) -> ast.Module:
    return without_docstrings(ast.parse(file.read_text()))


def _code_of(module: str) -> str:
    """What the module robench.`module` is known by where it is imported: its code, less its own imports; nothing of an
    `EXEMPT` one, nor of one that no file holds."""
    file = None if module in EXEMPT else _file_of(module)
    return _bare_hash(file) if file else ""


@cache
def _bare_hash(file: Path) -> str:
    tree = _tree(file)
    bare = _Placeless(dict.fromkeys((each.bound for each in _own_imports(tree) if each.is_module), "module_"))
    return hashlib.sha256(ast.unparse(bare.visit(tree)).encode()).hexdigest()


@dataclass(frozen=True)
class _Import:
    """What an import of robench's own binds: the name `bound` here; of what `name` in `module`, below robench."""

    bound: str
    name: str
    module: str
    is_module: bool


def _own_imports(tree: ast.AST) -> Iterator[_Import]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and _is_own(node.module or ""):
            for alias in node.names:
                yield _imported(alias.asname or alias.name, alias.name, _below(node.module or ""))
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if _is_own(alias.name):
                    yield _Import(alias.asname or alias.name, alias.name, _below(alias.name), is_module=True)


def _imported(bound: str, name: str, within: str) -> _Import:
    """What `from robench.within import name` is: a module, or something of the module that it is written in."""
    module = f"{within}.{name}".removeprefix(".")
    if _file_of(module):
        return _Import(bound, name, module, is_module=True)
    file = _file_of(within)
    handed_on = _hands_on(file).get(name) if file and file.name == "__init__.py" else None
    return _imported(bound, *handed_on) if handed_on else _Import(bound, name, within, is_module=False)


@cache
def _hands_on(file: Path) -> dict[str, tuple[str, str]]:
    """By the names that a package imports from robench's modules: the name there, and the module."""
    found = [node for node in ast.parse(file.read_text()).body if isinstance(node, ast.ImportFrom)]
    own = [(node, alias) for node in found if _is_own(node.module or "") for alias in node.names]
    return {alias.asname or alias.name: (alias.name, _below(node.module or "")) for node, alias in own}


def _below(module: str) -> str:
    """The name of a module after "robench."."""
    return module.removeprefix("robench").removeprefix(".")


def _named(node: ast.AST) -> Iterator[str]:
    """The modules that a text names, below robench: one, or all of a folder ("robench.evaluation.executors."); they may
    be imported by it."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str) and _MODULE.fullmatch(node.value):
        name = node.value.removeprefix("robench.")
        if not name.endswith("."):
            yield name
        else:
            yield from (f"{name}{path.stem}" for path in _ROOT.joinpath(*name.split(".")).glob("*.py"))


def file_of(module: str) -> Path:
    """The file of a module of robench, by its whole name."""
    file = _file_of(_below(module))
    if file is None:
        raise ModuleNotFoundError(f"robench has no module {module}")
    return file


def _file_of(name: str) -> Path | None:
    """The file of the module robench.`name`; None where that is no module."""
    first, *rest = name.split(".")
    folder = registry.folder(first) if first in ("attacks", "defenses") else _ROOT / first  # type: ignore[arg-type]
    base = folder.joinpath(*rest)
    for path in (base.with_suffix(".py"), base / "__init__.py"):
        if path.is_file():
            return path.resolve()
    return None


class _Placeless(ast.NodeTransformer):
    """Takes out of a file what says where robench's modules lie: its imports of them, texts that name them, and the
    names that they have here, in place of which stands what `modules` says."""

    def __init__(self, modules: Mapping[str, str]) -> None:
        self.modules = modules

    def generic_visit(self, node: ast.AST) -> ast.AST:
        visited = super().generic_visit(node)
        if getattr(visited, "body", None) == []:
            visited.body = [ast.Pass()]  # type: ignore[attr-defined]
        return visited

    def visit_Import(self, node: ast.Import) -> ast.AST | None:
        node.names = [alias for alias in node.names if not _is_own(alias.name)]
        return node if node.names else None

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.AST | None:
        return None if _is_own(node.module or "") else node

    def visit_Name(self, node: ast.Name) -> ast.AST:
        return ast.Name(self.modules.get(node.id, node.id), node.ctx)

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        return ast.Constant("robench.") if isinstance(node.value, str) and _MODULE.fullmatch(node.value) else node


def _is_own(module: str) -> bool:
    return module == "robench" or module.startswith("robench.")
