"""Python files of the user's, which find the modules that lie beside them as a script would, and no other folder's.

Each folder is a package of its own name, and an `import models` in a file of it means the `models` that lies there:
two folders may have neighbours of one name. A folder that is a package itself (it holds `__init__.py`) is imported from
the folder above, so that relative imports work. The working directory and `sys.path` stay as they are.
"""

import builtins
import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Mapping, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

PREFIX = "robench_user_"

NEVER = sys.stdlib_module_names | {"robench"}
"""What no neighbour stands in for, as a file `random.py` beside a script does."""

_code: dict[str, str] = {}
"""By the names of modules that were loaded, a hash of the text that was run."""


def root_of(path: Path) -> Path:
    """The folder that the imports of a file start from: the nearest above it that is no package."""
    folder = path.resolve().parent
    while (folder / "__init__.py").is_file():
        folder = folder.parent
    return folder


def name_of(path: Path, root: Path) -> str:
    """What the module of a file below `root` is called."""
    parts = path.resolve().relative_to(root).with_suffix("").parts
    return ".".join([_package(root), *(part.replace(".", "_") for part in parts)])


def root_of_module(name: str) -> Path:
    """The folder that the imports of a user's module start from."""
    return Path(sys.modules[name.partition(".")[0]].__path__[0])


def load(path: Path, root: Path) -> ModuleType:
    """Runs a file afresh as a module; the neighbours that it imports too, where one of them has changed."""
    _enter(root)
    name = name_of(path, root)
    for package in _packages(name):
        importlib.import_module(package)
    spec = importlib.util.spec_from_file_location(name, path, loader=_Loader(name, str(path)))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def meant(name: str, importer: str) -> str:
    """The whole name of the module that `import name` means in a user's module: a neighbour's, else the same."""
    if not importer.startswith(PREFIX) or name.partition(".")[0] in NEVER:
        return name
    top = name.partition(".")[0]
    package = importer.partition(".")[0]
    for parent in dict.fromkeys((package, importer.rpartition(".")[0] or package)):
        folders = getattr(sys.modules.get(parent), "__path__", ())
        if any(_lies_in(Path(folder), top) for folder in folders):
            return f"{parent}.{name}"
    return name


def _lies_in(folder: Path, top: str) -> bool:
    """Whether a module is there; a folder without `__init__.py` is one where nothing installed has its name."""
    if (folder / f"{top}.py").is_file() or (folder / top / "__init__.py").is_file():
        return True
    return any((folder / top).glob("*.py")) and importlib.util.find_spec(top) is None


def _import(
    name: str,
    globals: Mapping[str, Any] | None = None,  # the names of builtins.__import__
    locals: Mapping[str, Any] | None = None,
    fromlist: Sequence[str] | None = (),
    level: int = 0,
) -> ModuleType:
    """As builtins.__import__, where a neighbour goes before what is installed."""
    whole = meant(name, str((globals or {}).get("__name__", ""))) if level == 0 else name
    found = builtins.__import__(whole, globals, locals, fromlist or (), level)
    if whole == name or fromlist:
        return found
    return sys.modules[f"{whole.removesuffix(name)}{name.partition('.')[0]}"]


class _Loader(SourceFileLoader):
    """Loads a file of the user's, always from its text."""

    def get_code(self, fullname: str) -> CodeType:
        text = self.get_data(self.path)
        _code[fullname] = hashlib.sha256(text).hexdigest()
        return self.source_to_code(text, self.path)

    def exec_module(self, module: ModuleType) -> None:
        vars(module)["__builtins__"] = {**vars(builtins), "__import__": _import}
        super().exec_module(module)


class _Finder(MetaPathFinder):
    """Finds the neighbours of users' files."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        spec = PathFinder.find_spec(fullname, path) if fullname.startswith(PREFIX) and path else None
        if spec and isinstance(spec.loader, SourceFileLoader):
            spec.loader = _Loader(fullname, spec.loader.path)
        return spec


def _package(root: Path) -> str:
    return f"{PREFIX}{hashlib.sha256(str(root).encode()).hexdigest()[:12]}"


def _packages(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[:end]) for end in range(2, len(parts))]


def _enter(root: Path) -> None:
    """Makes the package of a folder, without modules of it whose files have changed."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
    package = _package(root)
    importlib.invalidate_caches()
    loaded = [name for name in sys.modules if f"{name}.".startswith(f"{package}.")]
    if any(_has_changed(name) for name in loaded):
        for name in loaded:
            del sys.modules[name]
    if package not in sys.modules:
        sys.modules[package] = ModuleType(package)
        sys.modules[package].__path__ = [str(root)]


def _has_changed(name: str) -> bool:
    path = Path(getattr(sys.modules[name], "__file__", None) or "")
    try:
        return name in _code and hashlib.sha256(path.read_bytes()).hexdigest() != _code[name]
    except OSError:
        return True
