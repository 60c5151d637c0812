from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from robench.models.network import Network


class PreActBlock(nn.Module):
    """Batch norm, ReLU and a 3x3 convolution, twice (He et al. 2016b); where width or size changes, the shortcut
    convolves what the first ReLU gives, or the input itself with `raw_shortcut`."""

    def __init__(self, channels: int, width: int, stride: int, *, raw_shortcut: bool) -> None:
        super().__init__()
        self.raw_shortcut = raw_shortcut
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv1 = nn.Conv2d(channels, width, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        changes = stride != 1 or channels != width
        self.shortcut = nn.Sequential(nn.Conv2d(channels, width, 1, stride, bias=False)) if changes else None

    def forward(self, x: Tensor) -> Tensor:
        activated = self.bn1(x).relu()
        out: Tensor = self.conv2(self.bn2(self.conv1(activated)).relu())
        return out + (x if self.shortcut is None else self.shortcut(x if self.raw_shortcut else activated))


class PreActResNet18(Network):
    """The pre-activation ResNet-18 usual on CIFAR: a 3x3 stem without max-pooling, no batch norm after the last block.

    Parameter names are those of the widely copied public implementation.
    """

    smallest = 8

    def __init__(
        self, shape: Sequence[int], classes: int, *, raw_shortcut: bool = False, last_norm: bool = False
    ) -> None:
        super().__init__(shape, classes)
        self.raw_shortcut = raw_shortcut
        self.conv1 = nn.Conv2d(shape[0], 64, 3, padding=1, bias=False)
        self.layer1 = self._stage(64, 64, 1)
        self.layer2 = self._stage(64, 128, 2)
        self.layer3 = self._stage(128, 256, 2)
        self.layer4 = self._stage(256, 512, 2)
        self.bn = nn.BatchNorm2d(512) if last_norm else None
        self.linear = nn.Linear(512, classes)

    def _stage(self, channels: int, width: int, stride: int) -> nn.Sequential:
        first = PreActBlock(channels, width, stride, raw_shortcut=self.raw_shortcut)
        return nn.Sequential(first, PreActBlock(width, width, 1, raw_shortcut=self.raw_shortcut))

    def feature_map(self, x: Tensor) -> Tensor:
        x = self.conv1(self.normalize(x))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return x if self.bn is None else self.bn(x).relu()

    def pool(self, feature_map: Tensor) -> Tensor:
        return F.adaptive_avg_pool2d(feature_map, 1).flatten(1)

    def head(self, features: Tensor) -> Tensor:
        return self.linear(features)  # type: ignore[no-any-return]


class NormedPreActResNet18(PreActResNet18):
    """The PreActResNet-18 of Rice et al. 2020: with batch norm and ReLU after the last block."""

    def __init__(self, shape: Sequence[int], classes: int) -> None:
        super().__init__(shape, classes, last_norm=True)


class RawPreActResNet18(PreActResNet18):
    """The PreActResNet-18 of Wong et al. 2020, "Fast is better than free": its shortcuts convolve what no norm saw."""

    def __init__(self, shape: Sequence[int], classes: int) -> None:
        super().__init__(shape, classes, raw_shortcut=True)


NETWORKS = {
    "preactresnet18": PreActResNet18,
    "preactresnet18-bn": NormedPreActResNet18,
    "preactresnet18-fast": RawPreActResNet18,
}
