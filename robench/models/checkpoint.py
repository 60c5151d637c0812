"""robench's own file of a trained model: weights and a description."""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, field
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import ConfigDict, Field, ValidationError, model_validator
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from robench.models.files.reading import read as read
from robench.models.network import check_normalisation
from robench.threat import Norm, ThreatModel
from robench.utils.errors import UserError
from robench.utils.files import replacing

FORMAT = "robench-checkpoint-1"

Side = Annotated[int, Field(gt=0, le=2**16)]
"""Channels, height or width of an image."""


@dataclass(frozen=True, config=ConfigDict(extra="forbid", strict=True))
class Card:
    """What a checkpoint says of itself. dataset: what it is evaluated on unless told otherwise; labelled: the rows of
    the training images that kept their label, where not all did."""

    arch: str
    shape: Annotated[list[Side], Field(min_length=3, max_length=3)]
    classes: Annotated[int, Field(ge=2, le=10**5)]
    mean: Annotated[list[float], Field(min_length=1)]
    std: Annotated[list[float], Field(min_length=1)]
    dataset: str
    norm: Norm
    eps: str
    defense: str
    recipe: dict[str, Any]
    seed: Annotated[int, Field(ge=0)]
    metrics: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    processes: Annotated[int, Field(gt=0)] = 1
    """how many trained it, see `robench/training/distributed.py`"""
    labelled: list[int] = field(default_factory=list)
    inputs: dict[str, Any] = field(default_factory=dict)
    """what else made it: the fingerprints of its images and of the code"""

    @model_validator(mode="after")
    def _can_be_meant(self) -> "Card":
        check_normalisation(self.mean, self.std, self.shape[0])
        ThreatModel.of(self.norm, self.eps)
        if not isinstance(self.recipe.get("settings", {}), dict):
            raise UserError("the settings of its recipe are no keys and values")
        return self


def save(path: Path, model: nn.Module, card: Card, helpers: Mapping[str, Mapping[str, Tensor]] | None = None) -> None:
    """Writes the file whole or not at all. `helpers`: the weights of the networks trained beside the model, by name."""
    document = {"format": FORMAT, "card": asdict(card), "weights": cpu_weights(model), "helpers": dict(helpers or {})}
    save_document(path, document)


def cpu_weights(network: nn.Module) -> dict[str, Tensor]:
    """A copy of a network's weights as they are now."""
    return {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in network.state_dict().items()
    }


def save_document(path: Path, document: dict[str, Any]) -> None:
    """`torch.save`, whole or not at all."""
    with replacing(path) as temporary:
        torch.save(document, temporary)


def card_of(document: Any, where: str = "the checkpoint") -> Card | None:
    """The card of one of our own checkpoints, in the file `where`; None for anything else."""
    if not isinstance(document, Mapping) or document.get("format") != FORMAT:
        return None
    card = document.get("card")
    problem = "it has none"
    try:
        if isinstance(card, Mapping):
            return Card(**{str(key): value for key, value in card.items()})
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        problem = f"{place + ': ' if place else ''}{first['msg'].lower()}, got {str(first['input'])[:80]!r}"
    except UserError as error:
        problem = str(error)
    raise UserError(f"the description in {where} cannot be read by this version of robench: {problem}")


def weights_of(document: Any, where: str) -> dict[str, Tensor]:
    """The weights of the model of one of our own checkpoints, in the file `where`."""
    weights = document.get("weights")
    if not isinstance(weights, Mapping):
        raise UserError(f"{where} holds a description and no weights; was it written by something else?")
    return dict(weights)


def helpers_of(document: Any, where: str = "the checkpoint") -> dict[str, dict[str, Tensor]]:
    """The weights of the networks that one of our own models was trained beside; empty where it was trained alone."""
    helpers: dict[str, dict[str, Tensor]] = document.get("helpers", {})
    if not isinstance(helpers, dict) or not all(isinstance(weights, dict) for weights in helpers.values()):
        raise UserError(f"{where} says that networks were trained beside its own, and holds no weights of them")
    return helpers


def weights_fingerprint(tensors: Mapping[str, Tensor]) -> str:
    """16 hexadecimal digits that name these tensors to the bit."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]
