"""What is evaluated: a model with what is known of it, from a checkpoint, a factory, or Python."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from robench.access import Access
from robench.evaluation.array_model import ArrayFunction, ArrayModel
from robench.evaluation.from_file import from_file
from robench.evaluation.said import Said
from robench.evaluation.said import described as described
from robench.evaluation.subject import NotReused as NotReused
from robench.evaluation.subject import Subject as Subject
from robench.models import checkpoint, libraries
from robench.models.users_code import called, maker
from robench.specs.choices import TORCHSCRIPT
from robench.utils.arguments import checked
from robench.utils.errors import UserError
from robench.utils.text import described as words_of


def is_weights_file(model: Any) -> bool:
    """Whether a model is given as the path of its weights, and not of code."""
    return isinstance(model, str | Path) and not str(model).rpartition(":")[0].endswith(".py")


def card_of(model: str | Path, arch: str | None) -> checkpoint.Card | None:
    """What a checkpoint of ours says of itself; None for another file, or one whose program is run."""
    if libraries.is_named(model):
        return None
    path, own = described(str(model))
    if not is_weights_file(path) or own.get("arch", arch) == TORCHSCRIPT:
        return None
    return checkpoint.card_of(checkpoint.read(Path(path)), path)


@checked
def load_model(
    model: "str | Path | nn.Module | Subject | ArrayFunction",
    *,
    arch: str | None = None,
    shape: Sequence[int] | None = None,
    classes: int | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    weights: str | None = None,
    download: bool = False,
) -> Subject:
    """A subject from a checkpoint of ours, a file of weights (with `arch`, and `shape` [C, H, W] of its images), a
    factory "PATH.py:FUNCTION" (runs that code), a name in a library such as "torchvision:resnet50", an nn.Module, or a
    function on arrays (with `shape` and `classes`).

    `arch` and `weights`, the key of one of several in a file, are for files of weights; `mean` and `std` normalise the
    input of any model, in the place of a library's own. A path may bring them itself:
    "FILE;arch=NAME;mean=0.1;std=0.3;weights=ema". `download` lets a library's model be fetched.
    """
    said = Said(arch, mean, std, weights)
    if isinstance(model, str) and libraries.is_named(model):
        said.refuse_of_file(model)
        named = libraries.load(model, shape=shape, mean=mean, std=std, download=download)
        return Subject(named.model, model, named.arch, notices=named.notices)
    if isinstance(model, str):
        model, own = described(model)
        said = said.with_own(own, model)
    said.check(shape)
    if isinstance(model, str | Path) and is_weights_file(model):
        return from_file(Path(model), said, shape)
    said.refuse_of_file(str(model) if isinstance(model, str | Path) else type(model).__name__)
    subject = _of_code(model, shape, classes)
    return subject if said.mean is None or said.std is None else subject.behind(said.mean, said.std)


def _of_code(model: Any, shape: Sequence[int] | None, classes: int | None) -> Subject:
    """A subject from anything but a file of weights."""
    if isinstance(model, Subject):
        return model.afresh()
    if isinstance(model, nn.Module):
        return from_module(model)
    if isinstance(model, str | Path):
        return _from_factory(str(model), shape, classes)
    return from_function(model, shape, classes)


def from_module(model: nn.Module) -> Subject:
    """A module of the user's own. Two that give the same description and have the same weights count as the same."""
    if not isinstance(model, nn.Module):
        raise UserError(f"expected an nn.Module, got {words_of(model)}")
    kind = type(model)
    return Subject(model, kind.__name__, f"{kind.__module__}.{kind.__qualname__}")


def from_function(function: ArrayFunction, shape: Sequence[int] | None, classes: int | None) -> Subject:
    """A callable on arrays. Two that give the same description count as the same."""
    if not callable(function) or shape is None or classes is None:
        raise UserError(f"expected a checkpoint's path, an nn.Module or a function on arrays, got {words_of(function)}")
    model = ArrayModel(function, classes)
    try:
        gives: Access = "labels" if model.gives_labels(np.zeros((1, *shape), dtype=np.float32)) else "scores"
    except Exception as error:  # whatever the user's function does
        raise UserError(f"{model.name} cannot take images of shape {tuple(shape)}: {error}") from None
    return Subject(model, model.name, f"function on arrays, {gives}", gives=gives)


def _from_factory(named: str, shape: Sequence[int] | None, classes: int | None) -> Subject:
    path, _, function = named.rpartition(":")
    model = called(maker(named), named, shape, classes)
    name = f"{Path(path).stem}-{function}"
    if callable(model) and not isinstance(model, nn.Module):
        return replace(from_function(model, shape, classes), name=name)
    if not isinstance(model, nn.Module):
        raise UserError(f"expected {named} to return an nn.Module, got {type(model).__name__}")
    return Subject(model.eval(), name, f"{Path(path).name}:{function}")
