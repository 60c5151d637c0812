"""What a defense is: the losses that one minibatch gives to the networks it trains."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn

from robench.threat import ThreatModel
from robench.training.distributed import WHOLE, Share
from robench.utils.sizes import Size, parse_size

MODEL = "model"
"""The player that every defense trains."""

LABELLED, UNLABELLED, TARGET = "labelled", "unlabelled", "target"
"""The streams of images that a defense may ask for: those with labels, those of the same set without, and those of the
domain to adapt to, without labels too."""


@dataclass(frozen=True)
class Batch:
    """x [B, C, H, W] in [0, 1] and y [B], on the device; in `more` the images of the other streams, by their name. A
    defense of `soft_labels` may find y [B, classes]."""

    x: Tensor
    y: Tensor
    more: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Step:
    """What a defense may use in one step of training.

    players: the networks in training mode, `model` among them; threat: at the radius of this step (it grows during a
    warm-up); generator: randomness, the same for the same seed and step, see `robench/training/rng.py` for how to draw
    from it; epoch: as a fraction; share: which rows of the batch the step has, where several processes share it. On the
    CPU the networks compute in channels-last, so a feature map or a gradient may lie so in memory: `reshape`, not
    `view`.
    """

    players: Mapping[str, nn.Module]
    threat: ThreatModel
    generator: torch.Generator
    epoch: float
    metrics: dict[str, Tensor] = field(default_factory=dict)
    memory: dict[str, Tensor] = field(default_factory=dict)
    share: Share = WHOLE

    @property
    def model(self) -> nn.Module:
        return self.players[MODEL]

    def size(self, written: Size) -> float:
        """The value of a length such as "eps/4", at this step's radius."""
        return parse_size(written, self.threat.eps)

    def once(self, name: str, make: Callable[[], Tensor]) -> Tensor:
        """What `make` gives, made the first time it is asked for in this step."""
        if name not in self.memory:
            self.memory[name] = make()
        return self.memory[name]

    def average(self, means: Sequence[Tensor]) -> None:
        """Turns means over the rows that this step has, in place, into means over all of the batch."""
        self.share.average(means)

    def log(self, **metrics: Tensor | float) -> None:
        """Scalars to show; the mean over an epoch is kept."""
        self.metrics.update({name: torch.as_tensor(value).detach() for name, value in metrics.items()})


@dataclass(frozen=True)
class Helper:
    """A network that a defense trains beside the model, with its own optimizer."""

    network: nn.Module
    optimizer: torch.optim.Optimizer


@dataclass(frozen=True)
class Defense(ABC):
    """A subclass is a frozen dataclass of the paper's hyperparameters. `streams` are those it asks for, `LABELLED`
    first; `soft_labels`: whether its losses take y as shares of the classes [B, classes] too, as cross-entropy does."""

    streams: ClassVar[Sequence[str]] = (LABELLED,)
    soft_labels: ClassVar[bool] = False

    @property
    def couples(self) -> bool:
        """Whether what becomes of an example depends on the others of its batch, but for the mean over them. Where
        several processes share a batch each couples the rows of its share only, and the training says so."""
        return False

    @abstractmethod
    def losses(self, batch: Batch, step: Step) -> dict[str, Tensor]:
        """One scalar for each player; the loop differentiates it into that player's parameters and no other's."""

    @contextmanager
    def around_update(self, batch: Batch, step: Step) -> Iterator[None]:
        """Holds while the losses are computed and differentiated, before the players move."""
        yield

    def deploy(self, players: Mapping[str, nn.Module], threat: ThreatModel) -> nn.Module:
        """What classifies at test time, made of the trained networks: `model` itself, or it behind a transform. An
        adaptive attacker differentiates all of it. threat: the one trained for."""
        return players[MODEL]

    def helpers(self, model: nn.Module, shape: Sequence[int], classes: int) -> dict[str, Helper]:
        """Fresh players beside the model, for images of `shape` [C, H, W]."""
        return {}
