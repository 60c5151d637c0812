from collections.abc import Iterator, Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from robench.models.network import Network

WIDTHS = (64, 128, 256, 512, 512)
"""Of the convolutions between one max-pooling and the next."""

OWN, PUBLISHED = "convolutions.", "features."
"""What the convolutions are called here, where `features` is what a network gives, and in files of weights."""


class VGG(Network):
    """A VGG of CIFAR (Simonyan & Zisserman 2015): batch norm after each 3x3 convolution, one linear layer.

    In its state dict parameters bear the names of the widely copied public implementation.
    """

    smallest = 32

    def __init__(self, shape: Sequence[int], classes: int, depths: Sequence[int]) -> None:
        """`depths`: how many convolutions each of the five widths has."""
        super().__init__(shape, classes)
        self.convolutions = nn.Sequential(*_layers(shape[0], depths))
        self.classifier = nn.Linear(WIDTHS[-1], classes)
        self.register_state_dict_post_hook(_publish)  # type: ignore[no-untyped-call]
        self.register_load_state_dict_pre_hook(_adopt)  # type: ignore[no-untyped-call]

    def feature_map(self, x: Tensor) -> Tensor:
        return self.convolutions(self.normalize(x))  # type: ignore[no-any-return]

    def pool(self, feature_map: Tensor) -> Tensor:
        return F.adaptive_avg_pool2d(feature_map, 1).flatten(1)

    def head(self, features: Tensor) -> Tensor:
        return self.classifier(features)  # type: ignore[no-any-return]


def _layers(channels: int, depths: Sequence[int]) -> Iterator[nn.Module]:
    for width, depth in zip(WIDTHS, depths, strict=True):
        for _ in range(depth):
            yield from (nn.Conv2d(channels, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU())
            channels = width
        yield nn.MaxPool2d(2)


def _publish(network: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    _rename(state, prefix + OWN, prefix + PUBLISHED)


def _adopt(network: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    _rename(state, prefix + PUBLISHED, prefix + OWN)


def _rename(state: dict[str, Any], before: str, after: str) -> None:
    for name in [name for name in state if name.startswith(before)]:
        state[after + name.removeprefix(before)] = state.pop(name)


class VGG11(VGG):
    """The VGG of 11 layers with batch norm, in its form for 32x32 images."""

    def __init__(self, shape: Sequence[int], classes: int) -> None:
        super().__init__(shape, classes, (1, 1, 2, 2, 2))


class VGG13(VGG):
    """The VGG of 13 layers with batch norm, in its form for 32x32 images."""

    def __init__(self, shape: Sequence[int], classes: int) -> None:
        super().__init__(shape, classes, (2, 2, 2, 2, 2))


class VGG16(VGG):
    """The VGG of 16 layers with batch norm, in its form for 32x32 images."""

    def __init__(self, shape: Sequence[int], classes: int) -> None:
        super().__init__(shape, classes, (2, 2, 3, 3, 3))


class VGG19(VGG):
    """The VGG of 19 layers with batch norm, in its form for 32x32 images."""

    def __init__(self, shape: Sequence[int], classes: int) -> None:
        super().__init__(shape, classes, (2, 2, 4, 4, 4))


NETWORKS = {"vgg11": VGG11, "vgg13": VGG13, "vgg16": VGG16, "vgg19": VGG19}
