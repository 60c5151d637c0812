from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from robench.models.network import Network


class ConvBlock(nn.Module):
    """A convolution, batch norm, LeakyReLU 0.1."""

    def __init__(self, channels: int, width: int, size: int, padding: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, width, size, padding=padding)
        self.bn = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        return F.leaky_relu(self.bn(self.conv(x)), 0.1)


class ConvLarge(Network):
    """The network of VAT on CIFAR-10 (Miyato et al. 2018): 3x 128@3, pool, drop, 3x 256@3, pool, drop, 512@3
    unpadded, 256@1, 128@1, average pool, fc.

    Dropout 0.5. Parameter names are those of the code that ALD took it from.
    """

    smallest = 12

    def __init__(self, shape: Sequence[int], classes: int) -> None:
        super().__init__(shape, classes)
        self.layer1 = nn.Sequential(*(ConvBlock(width, 128, 3, 1) for width in (shape[0], 128, 128)))
        self.layer2 = nn.Sequential(*(ConvBlock(width, 256, 3, 1) for width in (128, 256, 256)))
        self.layer3 = nn.Sequential(ConvBlock(256, 512, 3, 0), ConvBlock(512, 256, 1, 0), ConvBlock(256, 128, 1, 0))
        self.drop = nn.Dropout(0.5)
        self.fc1 = nn.Linear(128, classes)

    def feature_map(self, x: Tensor) -> Tensor:
        x = self.drop(F.max_pool2d(self.layer1(self.normalize(x)), 2))
        x = self.drop(F.max_pool2d(self.layer2(x), 2))
        return self.layer3(x)  # type: ignore[no-any-return]

    def pool(self, feature_map: Tensor) -> Tensor:
        return F.adaptive_avg_pool2d(feature_map, 1).flatten(1)

    def head(self, features: Tensor) -> Tensor:
        return self.fc1(features)  # type: ignore[no-any-return]


NETWORKS = {"conv_large": ConvLarge}
