from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from robench.models.network import Network


class WideBlock(nn.Module):
    """Batch norm, ReLU and a 3x3 convolution, twice; where the width changes, the shortcut convolves what the first
    ReLU gives."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv1 = nn.Conv2d(channels, width, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.convShortcut = None if channels == width else nn.Conv2d(channels, width, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        activated = self.bn1(x).relu()
        out: Tensor = self.conv2(self.bn2(self.conv1(activated)).relu())
        return out + (x if self.convShortcut is None else self.convShortcut(activated))


class WideStage(nn.Module):
    """`depth` blocks, the first of which changes width and size."""

    def __init__(self, depth: int, channels: int, width: int, stride: int) -> None:
        super().__init__()
        rest = [WideBlock(width, width, 1) for _ in range(depth - 1)]
        self.layer = nn.Sequential(WideBlock(channels, width, stride), *rest)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)  # type: ignore[no-any-return]


class WideResNet(Network):
    """A pre-activation Wide ResNet of `depth` 6n + 4 (Zagoruyko & Komodakis 2016), no dropout.

    Parameter names are those of the public TRADES code, whose unused `sub_block1` is dropped from its checkpoints.
    """

    smallest = 8

    def __init__(self, shape: Sequence[int], classes: int, depth: int, factor: int) -> None:
        super().__init__(shape, classes)
        blocks = (depth - 4) // 6
        widths = [16, *(width * factor for width in (16, 32, 64))]
        self.conv1 = nn.Conv2d(shape[0], widths[0], 3, padding=1, bias=False)
        self.block1 = WideStage(blocks, widths[0], widths[1], 1)
        self.block2 = WideStage(blocks, widths[1], widths[2], 2)
        self.block3 = WideStage(blocks, widths[2], widths[3], 2)
        self.bn1 = nn.BatchNorm2d(widths[3])
        self.fc = nn.Linear(widths[3], classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")
        nn.init.zeros_(self.fc.bias)

    def feature_map(self, x: Tensor) -> Tensor:
        x = self.block3(self.block2(self.block1(self.conv1(self.normalize(x)))))
        return self.bn1(x).relu()  # type: ignore[no-any-return]

    def pool(self, feature_map: Tensor) -> Tensor:
        return F.adaptive_avg_pool2d(feature_map, 1).flatten(1)

    def head(self, features: Tensor) -> Tensor:
        return self.fc(features)  # type: ignore[no-any-return]


class WRN2810(WideResNet):
    """The Wide ResNet of depth 28 and width 10, for 32x32 images."""

    def __init__(self, shape: Sequence[int], classes: int) -> None:
        super().__init__(shape, classes, 28, 10)


class WRN3410(WideResNet):
    """The Wide ResNet of depth 34 and width 10, for 32x32 images."""

    def __init__(self, shape: Sequence[int], classes: int) -> None:
        super().__init__(shape, classes, 34, 10)


class WRN3420(WideResNet):
    """The Wide ResNet of depth 34 and width 20, for 32x32 images."""

    def __init__(self, shape: Sequence[int], classes: int) -> None:
        super().__init__(shape, classes, 34, 20)


class WRN7016(WideResNet):
    """The Wide ResNet of depth 70 and width 16, for 32x32 images."""

    def __init__(self, shape: Sequence[int], classes: int) -> None:
        super().__init__(shape, classes, 70, 16)


NETWORKS = {"wrn-28-10": WRN2810, "wrn-34-10": WRN3410, "wrn-34-20": WRN3420, "wrn-70-16": WRN7016}
