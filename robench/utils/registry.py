"""Finds what robench knows by name: the files of attacks/, defenses/ and benchmarks/, and the users' own.

Nothing is registered anywhere: a file that lies in the folder is known.
"""

import importlib
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args
from weakref import WeakKeyDictionary

from pydantic import BaseModel, ConfigDict, ValidationError

from robench.utils import neighbours, yaml_text
from robench.utils.containment import contained
from robench.utils.errors import UserError, unknown
from robench.utils.files import check_file
from robench.utils.settings import assignment
from robench.utils.text import shortly

Code = Literal["attacks", "defenses"]
Folder = Literal["attacks", "defenses", "benchmarks"]

CODE: tuple[Code, ...] = get_args(Code)


class Strict(BaseModel):
    """A block of YAML: unknown keys and wrong types are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


StrictModel = TypeVar("StrictModel", bound=Strict)


def folder(name: Folder) -> Path:
    """Inside the package where it was installed from a wheel, beside it in a checkout."""
    inside = Path(__file__).parents[1] / name
    if any(path.name != "__init__.py" for pattern in ("*.py", "*.yaml") for path in inside.glob(pattern)):
        return inside
    return Path(__file__).resolve().parents[2] / name


def names(name: Folder, pattern: str) -> list[str]:
    """Stems of the files of a folder that match a pattern such as "*.py"."""
    return sorted(path.stem for path in folder(name).glob(pattern) if path.name not in ("__init__.py", "catalog.yaml"))


def read_yaml(path: Path) -> Any:
    check_file(path)
    try:
        with path.open(encoding="utf-8") as file:
            return yaml_text.read(file.read(yaml_text.CHARACTERS + 1))
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from None
    except (ValueError, OverflowError) as error:
        raise UserError(f"{path} is not YAML: {error}") from None


def parse(schema: type[StrictModel], block: Any, where: str) -> StrictModel:
    """A block of YAML as its model; the first thing wrong with it becomes the error."""
    if not isinstance(block, dict):
        raise UserError(f"{where}: expected keys and values, got {shortly(block)}")
    for key in block:
        if key not in schema.model_fields:
            raise UserError(f"{where}: {unknown('key', str(key), schema.model_fields)}")
    try:
        return schema.model_validate(block)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise UserError(f"{where}: {place}: {first['msg'].lower()}, got {shortly(first['input'])}") from None


def is_of_user(module_name: str | None) -> bool:
    """Whether a module is a file of the user's."""
    return (module_name or "").startswith(neighbours.PREFIX)


def users_file(written: str) -> tuple[Path, str] | None:
    """The file and the name of "FILE.py:NAME", or of "FILE.py" with an empty name; None of anything else."""
    file, _, name = written.rpartition(":")
    if file.endswith(".py"):
        return Path(file), name
    return (Path(written), "") if written.endswith(".py") else None


def load_file(path: Path) -> Any:
    """Imports a Python file of the user's and the modules beside it that it names; it runs their code. One of robench's
    own, by its path, is the module that its name gives, whose neighbours stand in for no library."""
    if not path.is_file():
        raise UserError(f"there is no file {path}")
    for kind in CODE:
        if path.resolve().parent == folder(kind).resolve() and path.stem in names(kind, "*.py"):
            return module(kind, path.stem)
    try:
        with contained(str(path)):
            return neighbours.load(path, neighbours.root_of(path))
    except Exception as error:
        raise UserError(f"{path} cannot be imported: {type(error).__name__}: {error}") from error


def module(kind: Code, name: str) -> Any:
    """The module of an attack or a defense, by its file's stem or, for a user's own, by a path that ends in .py."""
    if name.endswith(".py"):
        return load_file(Path(name))
    if name not in names(kind, "*.py"):
        raise unknown(kind.removesuffix("s"), name, names(kind, "*.py"))
    return importlib.import_module(f"robench.{kind}.{name}")


def attack_catalog() -> dict[str, dict[str, Any]]:
    """Every configured attack, and every function that has no entry of its own under its own name."""
    entries: dict[str, dict[str, Any]] = read_yaml(folder("attacks") / "catalog.yaml")
    return {**{name: {"attack": name} for name in names("attacks", "*.py")}, **entries}


def attack_entry(written: str) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """Of an attack as it is written, such as "pgd-20:restarts=5": its name, what the catalog says of it (of FAMILY:NAME
    or a .py file the function alone), and the settings that are given."""
    name, colon, tail = written.rpartition(":") if "=" in written.rpartition(":")[2] else (written, "", "")
    given = dict(assignment(part) for part in tail.split(",")) if colon else {}
    entries = attack_catalog()
    family = name.partition(":")[0]
    if name.endswith(".py") or (family != name and family in entries):
        return name, {"attack": name}, given
    if name not in entries:
        raise unknown("attack", name, entries)
    return name, entries[name], given


def recipe(name: str) -> dict[str, Any]:
    """A recipe of a defense, as its file has it."""
    entry: dict[str, Any] = read_yaml(folder("defenses") / "recipes" / f"{name}.yaml")
    return entry


def recipes() -> list[str]:
    return names("defenses", "recipes/*.yaml")


def bare_defenses() -> list[str]:
    """The defenses that no recipe names: each goes by its file's name, with its own defaults."""
    named = {recipe(name).get("defense") for name in recipes()}
    return [name for name in names("defenses", "*.py") if name not in named]


_members: WeakKeyDictionary[Callable[..., None], str] = WeakKeyDictionary()
"""What families gave, by the names by which another process finds it."""


def member_of(function: Callable[..., None]) -> str | None:
    """The FAMILY:NAME of an attack that a family gave."""
    return _members.get(function)


def attack_function(name: str) -> Callable[..., None]:
    """The function that bears its file's name, or after FAMILY:NAME the one that a family of them gives."""
    written = name
    name, _, member = (name, "", "") if name.endswith(".py") else name.partition(":")
    stem = Path(name).stem
    function = getattr(module("attacks", name), stem, None)
    if member and not hasattr(function, "family"):
        raise UserError(f"{stem} is no family of attacks, so {name}:{member} names none; {stem} alone does")
    if member and function:
        function = function(member)
        _members[function] = written
    if not inspect.isfunction(function) or not hasattr(function, "declaration"):
        raise UserError(f"expected a function {stem} under @sees(...) in {name}, found none")
    return function
