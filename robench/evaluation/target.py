"""What is evaluated: a model with what is known of it, from a checkpoint, a factory, or Python."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import torch
from torch import Tensor, nn

from robench.access import Access
from robench.evaluation.array_model import ArrayFunction, ArrayModel
from robench.models import carrier, checkpoint, make, outline_of
from robench.models.checkpoint import weights_fingerprint
from robench.models.description import Description, describe
from robench.models.description.tensors import can_be_weights
from robench.models.files.formats import kind_of
from robench.models.files.outline import LIKELY
from robench.models.files.weights import Wanted, fitted, load_exactly
from robench.models.network import check_normalisation, normalised, written
from robench.models.users_code import called, maker
from robench.threat import ThreatModel
from robench.training import recipe
from robench.training.defense import MODEL
from robench.utils import registry
from robench.utils.copying import copied
from robench.utils.errors import UserError


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


TORCHSCRIPT = "torchscript"
"""The word of `arch` by which the program in a TorchScript archive is run."""


@dataclass(frozen=True)
class Said:
    """What is said of a model beside its path: of a file the architecture, and under which key its weights are; of any
    the normalisation of its input."""

    arch: str | None = None
    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None
    weights: str | None = None

    def with_own(self, own: Mapping[str, Any], whose: str) -> "Said":
        """With what a path says of itself."""
        if both := [name for name in own if getattr(self, name) is not None]:
            raise UserError(f"{whose} says its own {both[0]}, and another was given; say it once")
        return replace(self, **own)

    def check(self, shape: Sequence[int] | None) -> None:
        if (self.mean is None) != (self.std is None):
            raise UserError(f"expected mean and std together, got the {'mean' if self.std is None else 'std'} alone")
        if self.mean is not None and self.std is not None:
            check_normalisation(self.mean, self.std, shape[0] if shape else None)

    def refuse_of_file(self, name: str) -> None:
        """Raises UserError where what is for a file of weights was said of a model that is none."""
        for word, value in (("arch", self.arch), ("weights", self.weights)):
            if value is not None:
                raise UserError(f"{word} is said of a file of weights, which {name} is not; leave it out")


def described(written: str) -> tuple[str, dict[str, Any]]:
    """A path, and what is said of the file: "FILE;arch=NAME;mean=0.49,0.48,0.45;std=0.25;weights=KEY"."""
    path, *parts = written.split(";")
    said: dict[str, Any] = {}
    for part in parts:
        key, value = part.partition("=")[::2]
        if key not in ("arch", "mean", "std", "weights") or not value:
            raise UserError(
                f"expected FILE;arch=NAME;mean=NUMBERS;std=NUMBERS;weights=KEY, got {part!r} in {written!r}"
            )
        said[key] = numbers(value) if key in ("mean", "std") else value
    return path, said


def numbers(text: str) -> list[float]:
    """Numbers from "0.49,0.48,0.45"."""
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise UserError(f"expected numbers separated by commas, got {text!r}") from None


def is_weights_file(model: Any) -> bool:
    """Whether a model is given as the path of its weights, and not of code."""
    return isinstance(model, str | Path) and not str(model).rpartition(":")[0].endswith(".py")


def card_of(model: str | Path, arch: str | None) -> checkpoint.Card | None:
    """What a checkpoint of ours says of itself; None for another file, or one whose program is run."""
    path, own = described(str(model))
    if not is_weights_file(path) or own.get("arch", arch) == TORCHSCRIPT:
        return None
    return checkpoint.card_of(checkpoint.read(Path(path)), path)


def load_model(
    model: "str | Path | nn.Module | Subject | ArrayFunction",
    *,
    arch: str | None = None,
    shape: Sequence[int] | None = None,
    classes: int | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    weights: str | None = None,
) -> Subject:
    """A subject from a checkpoint of ours, a file of weights (with `arch`, and `shape` [C, H, W] of its images), a
    factory "PATH.py:FUNCTION" (runs that code), an nn.Module, or a function on arrays (with `shape` and `classes`).

    `arch` and `weights`, the key of one of several in a file, are for files of weights; `mean` and `std` normalise the
    input of any model. A path may bring them itself: "FILE;arch=NAME;mean=0.1;std=0.3;weights=ema".
    """
    said = Said(arch, mean, std, weights)
    if isinstance(model, str):
        model, own = described(model)
        said = said.with_own(own, model)
    said.check(shape)
    if isinstance(model, str | Path) and is_weights_file(model):
        return _from_file(Path(model), said, shape)
    said.refuse_of_file(str(model) if isinstance(model, str | Path) else type(model).__name__)
    subject = _of_code(model, shape, classes)
    return subject if said.mean is None else _normalised(subject, said)


def _of_code(model: Any, shape: Sequence[int] | None, classes: int | None) -> Subject:
    """A subject from anything but a file of weights."""
    if isinstance(model, Subject):
        return model.afresh()
    if isinstance(model, nn.Module):
        return from_module(model)
    if isinstance(model, str | Path):
        return _from_factory(str(model), shape, classes)
    return from_function(model, shape, classes)


def _normalised(subject: Subject, said: Said) -> Subject:
    """The subject behind the normalisation that is said, which its notices tell."""
    assert said.mean is not None
    assert said.std is not None
    model = normalised(copied(subject.model), subject.name, said.mean, said.std).eval()
    undefended = subject.undefended and normalised(copied(subject.undefended), subject.name, said.mean, said.std)
    notice = f"the input of {subject.name} is normalised by a mean of {written(said.mean)} and a std of "
    notices = [*subject.notices, notice + written(said.std)]
    return replace(subject, model=model, undefended=undefended, notices=notices)


def _from_file(path: Path, said: Said, shape: Sequence[int] | None) -> Subject:
    if said.arch == TORCHSCRIPT:
        return _from_script(path, said)
    document = checkpoint.read(path)
    card = checkpoint.card_of(document, str(path))
    return _of_others(path, document, said, shape) if card is None else _of_ours(path, document, card, said)


def _from_script(path: Path, said: Said) -> Subject:
    """A TorchScript archive, whose program is run."""
    replace(said, arch=None).refuse_of_file(f"the TorchScript archive {path}")
    if kind_of(path) != TORCHSCRIPT:
        raise UserError(f"{path} is no TorchScript archive; name its architecture with --arch")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # TorchScript is on its way out, which its user cannot help
            model = torch.jit.load(path, map_location="cpu")  # type: ignore[no-untyped-call]
    except Exception as error:  # of many kinds for a damaged file, or one of another version
        reason = (str(error).strip().splitlines() or [""])[0]
        raise UserError(f"{path} cannot be loaded as TorchScript ({reason}); was its download cut?") from None
    subject = Subject(model.eval(), path.stem, TORCHSCRIPT)
    return subject if said.mean is None else _normalised(subject, said)


def _of_others(path: Path, document: Any, said: Said, shape: Sequence[int] | None) -> Subject:
    """From a file of weights that somebody else saved."""
    arch = said.arch
    if arch is None:
        raise UserError(
            f'{path} is a bare state dict; name its architecture with --arch, or as "{path};arch=NAME" (and '
            f";mean=...;std=... where it has them), or give a factory PATH.py:FUNCTION"
        )
    if shape is None:
        raise UserError(f"{path} is a bare state dict; give the shape of its images")
    outline = outline_of(arch, shape)
    found = fitted(document, str(path), Wanted(outline, key=said.weights, mean=said.mean, std=said.std))
    if found.classes is not None and found.classes < 2:
        raise UserError(
            f"the weights in {path} end in {found.classes} output, and not in 2 classes or more; give a factory "
            "PATH.py:FUNCTION that makes logits [0, z] of one output z"
        )
    stored = found.normalisation
    mean, std = (stored.mean, stored.std) if stored else (said.mean or (0.0,), said.std or (1.0,))
    network = make(arch, shape, found.classes or LIKELY, mean=mean, std=std)
    carrier(network).load_state_dict(found.state, strict=False)
    read = [f"its input is normalised as {path} says: {stored.word}"] if stored else []
    return Subject(network.eval(), path.stem, arch, notices=[*found.notices, *read])


def _of_ours(path: Path, document: Any, card: checkpoint.Card, said: Said) -> Subject:
    """From a checkpoint of ours, behind the test-time transform of its defense, if that has one."""
    file = registry.users_file(card.arch)
    if said.arch is None and file and not registry.was_run(file[0]):
        raise UserError(f"{path} is of the network in {card.arch}; to have that code run, name it with --arch")
    arch = said.arch or card.arch
    wanted = Wanted(outline_of(arch, card.shape), card.classes, said.weights)
    found = fitted(checkpoint.weights_of(document, str(path)), str(path), wanted)
    network = make(arch, card.shape, card.classes, mean=said.mean or card.mean, std=said.std or card.std)
    carrier(network).load_state_dict(found.state, strict=False)
    notices = found.notices
    if said.mean is not None and said.std is not None and (list(said.mean), list(said.std)) != (card.mean, card.std):
        notices.append(f"{path} says its own normalisation, in whose place --mean and --std were taken")
    subject = Subject(network.eval(), path.stem, arch, card, notices=notices)
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
            load_exactly(helper.network, helpers[name], f"the {name} of {subject.name}")
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


def _from_factory(named: str, shape: Sequence[int] | None, classes: int | None) -> Subject:
    path, _, function = named.rpartition(":")
    model = called(maker(named), named, shape, classes)
    name = f"{Path(path).stem}-{function}"
    if callable(model) and not isinstance(model, nn.Module):
        return replace(from_function(model, shape, classes), name=name)
    if not isinstance(model, nn.Module):
        raise UserError(f"expected {named} to return an nn.Module, got {type(model).__name__}")
    return Subject(model.eval(), name, f"{Path(path).name}:{function}")
