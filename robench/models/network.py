"""What every network is: images in, logits out, with the two places between that attacks and defenses look at."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn


class Normalize(nn.Module):
    """(x - mean) / std per channel. Part of the model, never of the data; kept out of its state dict, so that the
    field's checkpoints load as they are."""

    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.set((0.0,), (1.0,))

    def set(self, mean: Sequence[float], std: Sequence[float]) -> None:
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.std


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
