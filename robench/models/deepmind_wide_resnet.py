from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from robench.models.network import Network


class SwishBlock(nn.Module):
    """Batch norm, SiLU and a 3x3 convolution, twice; padded as TensorFlow's SAME is, below and right of an even size
    that is halved. Where the width changes, the shortcut convolves what the first SiLU gives."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.padding = (1, 1, 1, 1) if stride == 1 else (0, 1, 0, 1)
        self.batchnorm_0 = nn.BatchNorm2d(channels)
        self.conv_0 = nn.Conv2d(channels, width, 3, stride, bias=False)
        self.batchnorm_1 = nn.BatchNorm2d(width)
        self.conv_1 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.shortcut = None if channels == width else nn.Conv2d(channels, width, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        activated = F.silu(self.batchnorm_0(x))
        out: Tensor = self.conv_1(F.silu(self.batchnorm_1(self.conv_0(F.pad(activated, self.padding)))))
        return out + (x if self.shortcut is None else self.shortcut(activated))


class SwishStage(nn.Module):
    """`depth` blocks, the first of which changes width and size."""

    def __init__(self, depth: int, channels: int, width: int, stride: int) -> None:
        super().__init__()
        rest = [SwishBlock(width, width, 1) for _ in range(depth - 1)]
        self.block = nn.Sequential(SwishBlock(channels, width, stride), *rest)

    def forward(self, x: Tensor) -> Tensor:
        return self.block(x)  # type: ignore[no-any-return]


class SwishWideResNet(Network):
    """The Wide ResNet with SiLU of Gowal et al. 2020, whose public weights want `--mean` and `--std` of the data set.

    Parameter names are those of DeepMind's public code.
    """

    smallest = 8

    def __init__(self, shape: Sequence[int], classes: int, depth: int, factor: int) -> None:
        """`depth` is 6n + 4."""
        super().__init__(shape, classes)
        blocks = (depth - 4) // 6
        stem, *widths = (16, 16 * factor, 32 * factor, 64 * factor)
        self.init_conv = nn.Conv2d(shape[0], stem, 3, padding=1, bias=False)
        self.layer = nn.Sequential(
            SwishStage(blocks, stem, widths[0], 1),
            SwishStage(blocks, widths[0], widths[1], 2),
            SwishStage(blocks, widths[1], widths[2], 2),
        )
        self.batchnorm = nn.BatchNorm2d(widths[2])
        self.logits = nn.Linear(widths[2], classes)

    def feature_map(self, x: Tensor) -> Tensor:
        return F.silu(self.batchnorm(self.layer(self.init_conv(self.normalize(x)))))

    def pool(self, feature_map: Tensor) -> Tensor:
        return F.adaptive_avg_pool2d(feature_map, 1).flatten(1)

    def head(self, features: Tensor) -> Tensor:
        return self.logits(features)  # type: ignore[no-any-return]


class SwishWRN2810(SwishWideResNet):
    """DeepMind's Wide ResNet with SiLU of depth 28 and width 10, for 32x32 images."""

    def __init__(self, shape: Sequence[int], classes: int) -> None:
        super().__init__(shape, classes, 28, 10)


class SwishWRN3420(SwishWideResNet):
    """DeepMind's Wide ResNet with SiLU of depth 34 and width 20, for 32x32 images."""

    def __init__(self, shape: Sequence[int], classes: int) -> None:
        super().__init__(shape, classes, 34, 20)


class SwishWRN7016(SwishWideResNet):
    """DeepMind's Wide ResNet with SiLU of depth 70 and width 16, for 32x32 images."""

    def __init__(self, shape: Sequence[int], classes: int) -> None:
        super().__init__(shape, classes, 70, 16)


NETWORKS = {"dm-wrn-28-10": SwishWRN2810, "dm-wrn-34-20": SwishWRN3420, "dm-wrn-70-16": SwishWRN7016}
