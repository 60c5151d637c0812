"""What is evaluated: a model with what is known of it, from a checkpoint, a factory, or Python."""

import hashlib
import inspect
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from robench import checkpoint, content
from robench.errors import UserError
from robench.models import build


@dataclass(frozen=True)
class Subject:
    """A model, its name for people, and what its checkpoint knows (None where nothing does)."""

    model: nn.Module
    name: str
    arch: str
    card: checkpoint.Card | None = None
    source: str = ""
    """of a user's own code, where that made the model"""
    notices: list[str] = field(default_factory=list)

    def key(self) -> dict[str, Any]:
        """What of the model could change its predictions."""
        normalize = getattr(self.model, "normalize", None)
        return {
            "arch": self.arch,
            "weights": weights_fingerprint(self.model),
            "normalize": [getattr(normalize, name).flatten().tolist() for name in ("mean", "std")] if normalize else [],
            "source": self.source,
        }

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


def weights_fingerprint(model: nn.Module) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def load_model(
    model: str | Path | nn.Module,
    *,
    arch: str | None = None,
    shape: Sequence[int] | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> Subject:
    """A subject from a checkpoint of ours, a public state dict (with `arch`, and `shape` [C, H, W] of its images), a
    factory "PATH.py:FUNCTION" (runs that code), or an nn.Module."""
    if isinstance(model, nn.Module):
        return from_module(model)
    path, colon, function = str(model).rpartition(":")
    if colon and path.endswith(".py"):
        return _from_factory(Path(path), function)
    path = Path(model)
    document = checkpoint.read(path)
    card = checkpoint.card_of(document)
    state = checkpoint.state_dict_of(document, str(path))
    if card is None:
        if arch is None:
            raise UserError(f"{path} is a bare state dict; name its architecture with --arch")
        if shape is None:
            raise UserError(f"{path} is a bare state dict; give the shape of its images")
        classes = next((len(value) for value in reversed(state.values()) if value.dim() == 2), 0)
        if classes < 2:
            raise UserError(f"the weights in {path} end in no linear layer of 2 classes or more")
        network = build(arch, shape, classes, mean=mean or (0.0,), std=std or (1.0,))
    else:
        network = build(arch or card.arch, card.shape, card.classes, mean=mean or card.mean, std=std or card.std)
    dropped = checkpoint.load_weights(network, state, str(path))
    notices = [f"{len(dropped)} unused weights in {path} were dropped (sub_block1)"] if dropped else []
    return Subject(network.eval(), path.stem, arch or card.arch if card else str(arch), card, notices=notices)


def from_module(model: nn.Module) -> Subject:
    """A module of the user's own. Two of one class, one structure and one set of weights count as the same."""
    kind = type(model)
    try:
        code = inspect.getsource(kind)
    except (OSError, TypeError):
        code = ""
    source = hashlib.sha256(f"{model}\n{code}".encode()).hexdigest()[:16]
    return Subject(model, kind.__name__, f"{kind.__module__}.{kind.__qualname__}", source=source)


def _from_factory(path: Path, function: str) -> Subject:
    module = content.load_file(path)
    factory = getattr(module, function, None)
    if not callable(factory):
        raise UserError(f"expected a function {function} in {path}, found none")
    try:
        model = factory()
    except Exception as error:
        raise UserError(f"{path}:{function} failed: {type(error).__name__}: {error}") from error
    if not isinstance(model, nn.Module):
        raise UserError(f"expected {path}:{function} to return an nn.Module, got {type(model).__name__}")
    source = hashlib.sha256(path.read_bytes() + str(model).encode()).hexdigest()[:16]
    return Subject(model.eval(), f"{path.stem}-{function}", f"{path.name}:{function}", source=source)
