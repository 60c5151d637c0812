"""Resources: what an attack may ask for beside its examples: images to aim at, other models, images to train on.

An attack asks by a keyword of one of these types; the engine fills it, and the key of the cell names it.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import torch
from torch import Tensor

from robench.search.classifier import Classifier
from robench.search.rng import Draws
from robench.utils.errors import AttackError

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
class TrainingImages:
    """Images x [N, ...] with labels y [N] on which an attack may train a network of its own before it attacks."""

    x: Tensor
    y: Tensor

    def batches(self, size: int, epochs: int, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        """All of them in each epoch, in another order: x [size, ...] and y [size], fewer in the last batch."""
        for _ in range(epochs):
            order = torch.randperm(len(self.x), generator=generator, device=generator.device)
            for start in range(0, len(order), size):
                rows = order[start : start + size]
                yield self.x[rows], self.y[rows]


@dataclass(frozen=True)
class Sources:
    """Other models, which an attack may differentiate."""

    models: tuple[Classifier, ...]


@dataclass(frozen=True)
class Resources:
    """What there is; None where nothing was given. `memory` lasts as long as one attack on one model."""

    images: Images | None = None
    sources: Sources | None = None
    training: TrainingImages | None = None
    memory: dict[str, Any] = field(default_factory=dict)

    @property
    def _given(self) -> list[Images | Sources | TrainingImages]:
        return [value for value in (self.images, self.sources, self.training) if value is not None]

    @property
    def kinds(self) -> set[type]:
        return {type(value) for value in self._given}

    def of(self, kind: type[T]) -> T:
        """The resource of a type."""
        for value in self._given:
            if isinstance(value, kind):
                return value
        raise AttackError(f"the attack needs {KINDS[kind]}, and none were given")

    def once(self, name: str, make: Callable[[], T]) -> T:
        """What `make` gives, made the first time it is asked for."""
        if name not in self.memory:
            self.memory[name] = make()
        value: T = self.memory[name]
        return value

    def elsewhere(self, model: object) -> "Resources":
        """The same for an attack on another model, which shares none of what was made for this one."""
        return replace(self, memory=self.once(f"memory on {id(model)}", dict))


KINDS: dict[type, str] = {
    Images: "a pool of images",
    Sources: "source models (--source)",
    TrainingImages: "training images",
}
"""The types an attack may ask for, in words."""
