from collections.abc import Iterator, Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from robench.models.network import Network

STAGES = ((1, 16, 1, 1), (6, 24, 2, 1), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
"""How much wider the blocks are within, their width, how many there are, and the first one's stride."""


class InvertedResidual(nn.Module):
    """A 1x1 convolution to `inner` channels, a 3x3 one of each channel alone, a 1x1 one back, each with batch norm; a
    shortcut where the size stays."""

    def __init__(self, channels: int, inner: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, inner, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, inner, 3, stride, padding=1, groups=inner, bias=False)
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv3 = nn.Conv2d(inner, width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(width)
        self.stays = stride == 1
        self.shortcut = nn.Sequential()
        if self.stays and channels != width:
            self.shortcut = nn.Sequential(nn.Conv2d(channels, width, 1, bias=False), nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn2(self.conv2(self.bn1(self.conv1(x)).relu())).relu()
        out = self.bn3(self.conv3(out))
        return out + self.shortcut(x) if self.stays else out  # type: ignore[no-any-return]


class MobileNetV2(Network):
    """The MobileNetV2 (Sandler et al. 2018) usual on CIFAR: strides of 1 in the stem and the second stage, and ReLU.

    Parameter names are those of the widely copied public implementation.
    """

    smallest = 8

    def __init__(self, shape: Sequence[int], classes: int) -> None:
        super().__init__(shape, classes)
        self.conv1 = nn.Conv2d(shape[0], 32, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(32)
        self.layers = nn.Sequential(*_blocks(32))
        self.conv2 = nn.Conv2d(STAGES[-1][1], 1280, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(1280)
        self.linear = nn.Linear(1280, classes)

    def feature_map(self, x: Tensor) -> Tensor:
        x = self.layers(self.bn1(self.conv1(self.normalize(x))).relu())
        return self.bn2(self.conv2(x)).relu()  # type: ignore[no-any-return]

    def pool(self, feature_map: Tensor) -> Tensor:
        return F.adaptive_avg_pool2d(feature_map, 1).flatten(1)

    def head(self, features: Tensor) -> Tensor:
        return self.linear(features)  # type: ignore[no-any-return]


def _blocks(channels: int) -> Iterator[InvertedResidual]:
    for expansion, width, depth, stride in STAGES:
        for number in range(depth):
            yield InvertedResidual(channels, expansion * channels, width, 1 if number else stride)
            channels = width


NETWORKS = {"mobilenetv2": MobileNetV2}
