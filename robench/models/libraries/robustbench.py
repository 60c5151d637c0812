"""RobustBench's model zoo: `robustbench:Carmon2019Unlabeled`, its files in `models/` where `;folder=DIR` names none."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from robench.models.libraries.provider import Held, Library, Preprocessing, Wish, imported
from robench.utils.errors import UserError, unknown

NEEDLESS = ("autoattack", "autoattack.state", "pkg_resources")
"""Modules that robustbench 1.1 imports for its evaluation and its list of ImageNet's files, and that PyPI's robustbench
does not bring."""


class Needless(ModuleType):
    """In place of a module of which nothing is called here."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


def library(name: str) -> Any:
    """A module of robustbench."""
    with _importable():
        return imported(f"robustbench.{name}", "robustbench")


@contextmanager
def _importable() -> Iterator[None]:
    added = [name for name in NEEDLESS if not _is_there(name)]
    sys.modules.update({name: Needless(name) for name in added})
    try:
        yield
    finally:
        for name in added:
            del sys.modules[name]


def _is_there(name: str) -> bool:
    try:
        import_module(name)
    except ImportError:
        return False
    return True


def build(wish: Wish) -> Held:
    dataset, threat = _place(wish)
    entry = library("model_zoo").model_dicts[dataset][threat][wish.name]
    images, of = _images(dataset, threat, wish.name), f"{dataset.value} {threat.value}"
    if wish.weights == "none":
        return Held(entry["model"](), images, "none")
    if wish.weights:
        raise UserError(f"{wish.written}: expected weights=none, or another folder of files as folder=DIR")
    for file in _files(wish, dataset, threat, entry):
        if not file.is_file() and not wish.download:
            raise wish.missing(f"{file}, where ;folder=DIR may name another folder")
    model: nn.Module = library("utils").load_model(wish.name, _folder(wish), dataset, threat)
    return Held(model, images, of)


def _place(wish: Wish) -> tuple[Any, Any]:
    """The data set and the threat of the model, both of robustbench's words for them; said where it has several."""
    zoo = library("model_zoo").model_dicts
    places = [(dataset, threat) for dataset in zoo for threat in zoo[dataset] if wish.name in zoo[dataset][threat]]
    if not places:
        names = {name for threats in zoo.values() for models in threats.values() for name in models}
        raise unknown("model of robustbench", wish.name, names)
    said = [wish.options.get(key, "").lower() for key in ("dataset", "threat")]
    fitting = [place for place in places if all(map(_is_said, said, place))]
    if len(fitting) == 1:
        return fitting[0]
    ways = ", ".join(f"{wish.name};dataset={dataset.value};threat={threat.value}" for dataset, threat in places)
    raise UserError(f"{wish.written}: expected one of robustbench's {ways}")


def _is_said(word: str, value: Any) -> bool:
    return word in ("", value.value.lower())


def _folder(wish: Wish) -> Path:
    return Path(wish.options.get("folder", "models"))


def _files(wish: Wish, dataset: Any, threat: Any, entry: Any) -> list[Path]:
    """Where robustbench keeps its weights; none for a model whose weights another library fetches."""
    first = _folder(wish) / dataset.value / threat.value / f"{wish.name}.pt"
    parts = entry["gdrive_id"]
    if isinstance(parts, list):
        return [first.with_name(f"{first.name}_m{number}.pt") for number in range(len(parts))]
    return [first] if parts else []


def _images(dataset: Any, threat: Any, name: str) -> Preprocessing:
    """Which the models normalise themselves."""
    steps = library("data").get_preprocessing(dataset, threat, name, None).transforms
    sizes = [size if isinstance(size, int) else size[0] for step in steps if (size := getattr(step, "size", None))]
    crop, resize = (sizes[-1], sizes[0]) if sizes else (32, 32)
    return Preprocessing((3, crop, crop), resize)


LIBRARY = Library(
    "robustbench",
    "RobustBench's model zoo, as robustbench:Carmon2019Unlabeled",
    build,
    options=("weights", "dataset", "threat", "folder"),
)
