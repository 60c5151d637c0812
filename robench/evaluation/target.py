"""What is evaluated: a model with what is known of it, from a checkpoint, a factory, or Python."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
from torch import Tensor, nn

from robench.access import Access
from robench.evaluation.array_model import ArrayFunction, ArrayModel
from robench.models import build, checkpoint, libraries
from robench.models.checkpoint import weights_fingerprint
from robench.models.description import Description, describe
from robench.models.description.tensors import can_be_weights
from robench.threat import ThreatModel
from robench.training import recipe
from robench.training.defense import MODEL
from robench.utils import registry
from robench.utils.errors import UserError
from robench.utils.settings import numbers


class NotReused(UserWarning):
    """Rows are made again in each run, since it cannot be told whether they would be the same."""


@dataclass(frozen=True)
class Subject:
    """A model, its name for people, and what its checkpoint knows (None where nothing does)."""

    model: nn.Module
    name: str
    arch: str
    card: checkpoint.Card | None = None
    undefended: nn.Module | None = None
    """without its test-time transform, where it has one"""
    gives: Access = "gradients"
    """what it shows of itself"""
    notices: list[str] = field(default_factory=list)
    token: str = ""
    """which makes its key no other's, whatever is seen of it"""

    def key(self) -> dict[str, Any]:
        """What of the model could change its predictions, as it was when this was first asked: its weights, and all
        else that its answers depend on. Where something of that cannot be seen, the key is no other subject's."""
        return {"weights": self._weights, "source": self._described.fingerprint, **self._alone}

    @cached_property
    def hidden(self) -> Sequence[str]:
        """What of the model cannot be described, in words."""
        return self._described.hidden

    def alone(self) -> "Subject":
        """The same, whose key is no other's."""
        return replace(self, token=uuid4().hex)

    def afresh(self) -> "Subject":
        """The same, whose key is that of the model as it is now."""
        return replace(self)

    @property
    def _tensors(self) -> dict[str, Tensor]:
        named = [*self.model.named_parameters(), *self.model.named_buffers()]
        return {name: tensor for name, tensor in named if can_be_weights(tensor)}

    @cached_property
    def _weights(self) -> str:
        return weights_fingerprint(self._tensors)

    @cached_property
    def _described(self) -> Description:
        return describe(self.model, apart=self._tensors.values())

    @cached_property
    def _alone(self) -> dict[str, str]:
        token = self.token or (uuid4().hex if self.hidden else "")
        return {"alone": token} if token else {}

    def about(self) -> dict[str, Any]:
        """Names and numbers for people; none of it changes a prediction."""
        card = self.card
        return {
            "model": self.name,
            "arch": self.arch,
            "defense": card.defense if card else None,
            "recipe": card.recipe if card else None,
            "train_seed": card.seed if card else None,
            "trained_on": card.dataset if card else None,
            "trained_threat": f"{card.norm} {card.eps}" if card else None,
        }


def described(written: str) -> tuple[str, dict[str, Any]]:
    """A path, and what is said of the state dict in it: "FILE;arch=NAME;mean=0.49,0.48,0.45;std=0.25"."""
    path, *parts = written.split(";")
    said: dict[str, Any] = {}
    for part in parts:
        key, value = part.partition("=")[::2]
        if key not in ("arch", "mean", "std") or not value:
            raise UserError(f"expected FILE;arch=NAME;mean=NUMBERS;std=NUMBERS, got {part!r} in {written!r}")
        said[key] = value if key == "arch" else numbers(value)
    return path, said


def is_weights_file(model: Any) -> bool:
    """Whether a model is given as the path of its weights, and not of code, or by its name in a library."""
    is_path = isinstance(model, str | Path) and not libraries.is_named(model)
    return is_path and not str(model).rpartition(":")[0].endswith(".py")


def load_model(
    model: str | Path | nn.Module | ArrayFunction,
    *,
    arch: str | None = None,
    shape: Sequence[int] | None = None,
    classes: int | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    download: bool = False,
) -> Subject:
    """A subject from a checkpoint of ours, a public state dict (with `arch`, and `shape` [C, H, W] of its images), a
    factory "PATH.py:FUNCTION" (runs that code), a name in a library such as "torchvision:resnet50", an nn.Module, or a
    function on arrays (with `shape` and `classes`).

    `arch`, `mean` and `std` are for state dicts; a path may bring them itself: "FILE;arch=NAME;mean=0.1;std=0.3". Of a
    library's model, `mean` and `std` take the place of its own, and `download` lets it be fetched.
    """
    given: dict[str, Any] = {"arch": arch, "mean": mean, "std": std}
    if isinstance(model, str) and libraries.is_named(model):
        if arch is not None:
            raise UserError(f"arch describes a state dict; {model} brings its own")
        named = libraries.load(model, shape=shape, mean=mean, std=std, download=download)
        return Subject(named.model, model, named.arch, notices=named.notices)
    if isinstance(model, str):
        model, own = described(model)
        if both := [name for name in own if given[name] is not None]:
            raise UserError(f"{model} says its own {both[0]}, and another was given; say it once")
        given |= own
    arch, mean, std = given["arch"], given["mean"], given["std"]
    if (mean is None) != (std is None):
        raise UserError(f"expected mean and std together, got the {'mean' if std is None else 'std'} alone")
    if stray := [name for name, value in given.items() if value is not None and not is_weights_file(model)]:
        raise UserError(f"{' and '.join(stray)} describe a state dict; a module, factory or function brings its own")
    if isinstance(model, nn.Module):
        return from_module(model)
    if not isinstance(model, str | Path):
        return from_function(model, shape, classes)
    if not is_weights_file(model):
        file, _, function = str(model).rpartition(":")
        return _from_factory(Path(file), function, shape, classes)
    path = Path(model)
    document = checkpoint.read(path)
    card = checkpoint.card_of(document)
    state = checkpoint.state_dict_of(document, str(path))
    if card is None:
        if arch is None:
            raise UserError(
                f'{path} is a bare state dict; name its architecture with --arch, or as "{path};arch=NAME" (and '
                f";mean=...;std=... where it has them), or give a factory PATH.py:FUNCTION"
            )
        if shape is None:
            raise UserError(f"{path} is a bare state dict; give the shape of its images")
        classes = next((len(value) for value in reversed(state.values()) if value.dim() == 2), 0)
        if classes < 2:
            raise UserError(f"the weights in {path} end in no linear layer of 2 classes or more")
        network = build(arch, shape, classes, mean=mean or (0.0,), std=std or (1.0,))
    else:
        if arch is None and card.arch.endswith(".py") and not registry.was_run(Path(card.arch)):
            raise UserError(f"{path} is of the network in {card.arch}; to have that code run, name it with --arch")
        network = build(arch or card.arch, card.shape, card.classes, mean=mean or card.mean, std=std or card.std)
    dropped = checkpoint.load_weights(network, state, str(path))
    notices = [f"{len(dropped)} unused weights in {path} were dropped (sub_block1)"] if dropped else []
    name = arch or card.arch if card else str(arch)
    subject = Subject(network.eval(), path.stem, name, card, notices=notices)
    if card is None:
        return subject
    if card.defense.endswith(".py"):
        notices.append(f"{card.defense} trained it; a test-time transform that it may have is not applied")
        return subject
    return _deployed(subject, checkpoint.helpers_of(document))


def _deployed(subject: Subject, helpers: Mapping[str, Mapping[str, Tensor]]) -> Subject:
    """The subject behind the test-time transform of the defense that trained it, if that has one; `helpers` are the
    weights of the networks trained beside it."""
    card = subject.card
    assert card is not None
    if card.defense not in recipe.names():  # of a version that had others
        return subject
    defense = recipe.defense_of(card.defense, card.recipe.get("settings", {}))
    players = {MODEL: subject.model}
    for name, helper in defense.helpers(subject.model, card.shape, card.classes).items():
        if name in helpers:
            checkpoint.load_weights(helper.network, helpers[name], f"the {name} of {subject.name}")
            players[name] = helper.network
    model = defense.deploy(players, ThreatModel.of(card.norm, card.eps)).eval()
    if model is subject.model:
        return subject
    notices = [*subject.notices, f"it is deployed behind the test-time transform of {card.defense}"]
    return replace(subject, model=model, undefended=subject.model, notices=notices)


def from_module(model: nn.Module) -> Subject:
    """A module of the user's own. Two that give the same description and have the same weights count as the same."""
    kind = type(model)
    return Subject(model, kind.__name__, f"{kind.__module__}.{kind.__qualname__}")


def from_function(function: ArrayFunction, shape: Sequence[int] | None, classes: int | None) -> Subject:
    """A callable on arrays. Two that give the same description count as the same."""
    if not callable(function) or shape is None or classes is None:
        raise UserError(f"expected a checkpoint's path, an nn.Module or a function on arrays, got {function!r}")
    model = ArrayModel(function, classes)
    try:
        gives: Access = "labels" if model.gives_labels(np.zeros((1, *shape), dtype=np.float32)) else "scores"
    except Exception as error:  # whatever the user's function does
        raise UserError(f"{model.name} cannot take images of shape {tuple(shape)}: {error}") from None
    return Subject(model, model.name, f"function on arrays, {gives}", gives=gives)


def _from_factory(path: Path, function: str, shape: Sequence[int] | None, classes: int | None) -> Subject:
    module = registry.load_file(path)
    factory = getattr(module, function, None)
    if not callable(factory):
        raise UserError(f"expected a function {function} in {path}, found none")
    try:
        model = factory()
    except Exception as error:
        raise UserError(f"{path}:{function} failed: {type(error).__name__}: {error}") from error
    if callable(model) and not isinstance(model, nn.Module):
        return replace(from_function(model, shape, classes), name=f"{path.stem}-{function}")
    if not isinstance(model, nn.Module):
        raise UserError(f"expected {path}:{function} to return an nn.Module, got {type(model).__name__}")
    return Subject(model.eval(), f"{path.stem}-{function}", f"{path.name}:{function}")
