from collections.abc import Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robench.models.network import Network


class GaussianNoise(nn.Module):
    """Adds N(0, 1) to what passes in training."""

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.randn_like(x) if self.training else x


class _Dirt(Network):
    """Instance norm of the input, then three times three 3x3 convolutions with batch norm and LeakyReLU 0.1; a
    max-pool, dropout 0.5 and noise after the first three and the second; an average pool and a linear layer. Batch
    norm has PyTorch's usual settings."""

    smallest = 4
    widths: ClassVar[Sequence[int]]

    def __init__(self, shape: Sequence[int], classes: int) -> None:
        super().__init__(shape, classes)
        first, second, third = self.widths
        self.inorm = nn.InstanceNorm2d(shape[0])
        self.block1, self.block2 = _block(shape[0], first), _block(first, second)
        self.block3 = _block(second, third)
        self.between = nn.Sequential(nn.MaxPool2d(2), nn.Dropout(0.5), GaussianNoise())
        self.fc = nn.Linear(third, classes)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out")

    def encode(self, x: Tensor) -> Tensor:
        x = self.between(self.block1(self.inorm(self.normalize(x))))
        return self.between(self.block2(x))  # type: ignore[no-any-return]

    def decode(self, encoded: Tensor) -> Tensor:
        return self.head(self.pool(self.block3(encoded)))

    def feature_map(self, x: Tensor) -> Tensor:
        return self.block3(self.encode(x))  # type: ignore[no-any-return]

    def pool(self, feature_map: Tensor) -> Tensor:
        return F.adaptive_avg_pool2d(feature_map, 1).flatten(1)

    def head(self, features: Tensor) -> Tensor:
        return self.fc(features)  # type: ignore[no-any-return]


class DirtSmall(_Dirt):
    """The small network of VADA and DIRT-T (Shu et al. 2018): nine convolutions of 64 channels."""

    widths = (64, 64, 64)


class DirtLarge(_Dirt):
    """The large network of VADA and DIRT-T (Shu et al. 2018): three convolutions of 96 channels, six of 192. (The port
    that ALD used has 192 throughout.)"""

    widths = (96, 192, 192)


def _block(channels: int, width: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for entering in (channels, width, width):
        layers += [
            nn.Conv2d(entering, width, 3, padding=1),
            nn.BatchNorm2d(width),
            nn.LeakyReLU(0.1),
        ]
    return nn.Sequential(*layers)


NETWORKS = {"dirt_large": DirtLarge, "dirt_small": DirtSmall}
