"""Where a class or a function is from: an installed library, Python, robench, or the user's own files."""

import sys
import sysconfig
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from robench.utils.code import code_fingerprint


@dataclass(frozen=True)
class Origin:
    """A module of an installed library, which `word` names with its version, or one of robench's `own`."""

    module: str
    word: str
    own: bool = False

    @property
    def code(self) -> str:
        """The library's version, or of robench the code that the module runs."""
        file = getattr(sys.modules.get(self.module), "__file__", None)
        return code_fingerprint(Path(file).resolve()) if self.own and file else self.word

    def has(self, thing: Any) -> bool:
        """Whether a thing is what the module has under its name: else it was made as the program ran, perhaps of the
        user's."""
        found: Any = sys.modules.get(self.module)
        for name in thing.__qualname__.split("."):
            found = vars(found).get(name) if hasattr(found, "__dict__") else None
        return found is thing or getattr(found, "__func__", None) is thing

    def parts(self, thing: Any) -> Iterator[str]:
        """What the hash of a thing that the module has is made of."""
        yield from ("of a library", thing.__qualname__, self.code, "" if self.own else self.module)


@cache
def origin_of(module: str) -> Origin | None:
    """By a module's name; None for the user's own."""
    top = module.partition(".")[0]
    if top == "robench":
        return Origin(module, "robench", own=True)
    if module in sys.builtin_module_names:
        return Origin(module, "python")
    file = getattr(sys.modules.get(module) or sys.modules.get(top), "__file__", None) or _file(top)
    if file in ("built-in", "frozen"):
        return Origin(module, "python")
    if file is None:
        return None
    path = Path(file).resolve()
    if {"site-packages", "dist-packages"} & set(path.parts):
        return Origin(module, f"{top} {_version(top)}".strip())
    of_python = path.is_relative_to(Path(sysconfig.get_path("stdlib")).resolve())
    return Origin(module, "python") if of_python else None


def _file(module: str) -> str | None:
    with suppress(ImportError, ValueError, AttributeError):
        spec = find_spec(module)
        return spec.origin if spec else None
    return None


def _version(library: str) -> str:
    """Of a library, but for those whose versions a cell's key holds for itself."""
    if library in ("torch", "numpy"):
        return ""
    try:
        return version(library)
    except PackageNotFoundError:
        return str(getattr(sys.modules.get(library), "__version__", ""))
