"""What the engine lends an attack beyond its examples: images to aim at, other models, images to train on.

An attack asks by a keyword of one of these types; the engine fills it, and records what it lent.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from torch import Tensor

from robench.classifier import Classifier
from robench.draws import Draws
from robench.errors import AttackError

T = TypeVar("T")


@dataclass(frozen=True)
class Images:
    """A fixed pool of images x [P, ...] with labels y [P], in order of label: what an attack may draw targets from."""

    x: Tensor
    y: Tensor

    @classmethod
    def of(cls, x: Tensor, y: Tensor) -> "Images":
        order = y.sort(stable=True).indices
        return cls(x[order], y[order])

    def of_another_class(self, y: Tensor, draws: Draws, step: int) -> Tensor:
        """For each label [B] a random image [B, ...] that bears another one; a different draw for each step."""
        first, end = torch.searchsorted(self.y, y), torch.searchsorted(self.y, y, right=True)
        own = end - first
        if int(own.max()) == len(self.y):
            raise AttackError("the pool of images has none of another class")
        pick = draws.below("target", len(self.y) - own, step)
        return self.x[pick + own * (pick >= first)]


@dataclass(frozen=True)
class Sources:
    """Other models, which an attack may differentiate."""

    models: tuple[Classifier, ...]


@dataclass(frozen=True)
class Resources:
    """What there is; None where nothing was given. `memory` lasts as long as one attack on one model."""

    images: Images | None = None
    sources: Sources | None = None
    memory: dict[str, Any] = field(default_factory=dict)

    @property
    def kinds(self) -> set[type]:
        return {type(value) for value in (self.images, self.sources) if value is not None}

    def of(self, kind: type[T]) -> T:
        """The resource of a type."""
        for value in (self.images, self.sources):
            if isinstance(value, kind):
                return value
        raise AttackError(f"the attack needs {kind.__name__.lower()}, and none were given")

    def once(self, name: str, make: Callable[[], T]) -> T:
        """What `make` gives, made the first time it is asked for."""
        if name not in self.memory:
            self.memory[name] = make()
        value: T = self.memory[name]
        return value


KINDS: dict[type, str] = {Images: "a pool of images", Sources: "source models (--source)"}
"""The types an attack may ask for, in words."""
