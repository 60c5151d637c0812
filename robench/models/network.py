"""What every network is: images in, logits out, with the two places between that attacks and defenses look at."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from robench.utils.errors import UserError


def check_normalisation(mean: Sequence[float], std: Sequence[float], channels: int | None = None) -> None:
    """Refuses what cannot be the mean and the standard deviation of pixels in [0, 1], of images of so many channels."""
    for name, values in (("mean", mean), ("std", std)):
        if channels is not None and len(values) not in (1, channels):
            raise UserError(f"expected 1 or {channels} values for the {name}, got {len(values)}")
        for value in values:
            if 1 < value <= 255:
                raise UserError(
                    f"expected a {name} of pixels in [0, 1], got {value:g}; in units of 0 to 255? Then divide by 255: "
                    f"{value / 255:.4g}"
                )
            if not 0 <= value <= 1 or (name == "std" and value == 0):  # NaN fails too
                raise UserError(f"expected a {name} {'above 0' if name == 'std' else 'from 0'} to 1, got {value:g}")


class Normalize(nn.Module):
    """(x - mean) / std per channel. Part of the model, never of the data; kept out of its state dict, so that the
    field's checkpoints load as they are."""

    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.set((0.0,), (1.0,))

    def set(self, mean: Sequence[float], std: Sequence[float]) -> None:
        self.register_buffer("mean", torch.tensor(mean, device="cpu").view(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std, device="cpu").view(-1, 1, 1), persistent=False)

    @property
    def is_identity(self) -> bool:
        return bool((self.mean == 0).all() and (self.std == 1).all())

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.std


class Normalised(nn.Module):
    """A module of any kind behind the normalisation of its input; x [B, C, H, W] in [0, 1] -> what it gives."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.normalize = Normalize()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        return self.model(self.normalize(x))  # type: ignore[no-any-return]


class Network(nn.Module, ABC):
    """x [B, C, H, W] in [0, 1] -> feature_map [B, ...] -> features [B, D] -> logits [B, classes]."""

    smallest: ClassVar[int]
    """the least height and width of an image"""

    def __init__(self, shape: Sequence[int], classes: int) -> None:
        """For images of `shape` [C, H, W]."""
        super().__init__()
        self.normalize = Normalize()

    @abstractmethod
    def feature_map(self, x: Tensor) -> Tensor:
        """The last feature map, before pooling or flattening."""

    @abstractmethod
    def pool(self, feature_map: Tensor) -> Tensor:
        """The features that the last linear layer sees."""

    @abstractmethod
    def head(self, features: Tensor) -> Tensor:
        """The last linear layer."""

    def encode(self, x: Tensor) -> Tensor:
        """What is the same for two domains after adaptation to one: the last feature map, but for networks made for
        it."""
        return self.feature_map(x)

    def decode(self, encoded: Tensor) -> Tensor:
        """The logits of what `encode` gives."""
        return self.head(self.pool(encoded))

    def features(self, x: Tensor) -> Tensor:
        return self.pool(self.feature_map(x))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))


def normalised(model: nn.Module, name: str, mean: Sequence[float], std: Sequence[float]) -> Network | Normalised:
    """The model, which `name` names, behind this normalisation: that of a Network, else one put in front.

    Raises UserError where it would come on top of another."""
    network = model if isinstance(model, Network | Normalised) else Normalised(model)
    before = network.normalize.mean, network.normalize.std
    asked = Normalize()
    asked.set(mean, std)
    if asked.is_identity:
        return network
    if not network.normalize.is_identity:
        raise UserError(
            f"{name} normalises its input by a mean of {written(before[0])} and a std of {written(before[1])} of its "
            "own; leave out --mean and --std, or its own"
        )
    network.normalize.set(mean, std)
    return network


def written(values: Tensor | Sequence[float]) -> str:
    """Numbers as `--mean` takes them: "0.49,0.48,0.45"."""
    numbers = values.flatten().tolist() if isinstance(values, Tensor) else values
    return ",".join(f"{value:.6g}" for value in numbers)
