"""The networks, by the name that a checkpoint and `--arch` call them."""

from collections.abc import Sequence

from robench.models.conv_large import ConvLarge
from robench.models.digit_cnn import DigitCNN
from robench.models.dirt import DirtLarge, DirtSmall
from robench.models.lenet import LeNet
from robench.models.network import Network
from robench.models.resnet import ResNet18
from robench.models.small_cnn import SmallCNN
from robench.models.wide_resnet import WRN2810, WRN3410
from robench.utils.errors import UserError, unknown

ARCHITECTURES: dict[str, type[Network]] = {
    "conv_large": ConvLarge,
    "digit_cnn": DigitCNN,
    "dirt_large": DirtLarge,
    "dirt_small": DirtSmall,
    "lenet": LeNet,
    "resnet18": ResNet18,
    "small_cnn": SmallCNN,
    "wrn-28-10": WRN2810,
    "wrn-34-10": WRN3410,
}


def architecture(name: str) -> type[Network]:
    """The class of the networks of that name."""
    if name not in ARCHITECTURES:
        raise unknown("architecture", name, ARCHITECTURES)
    return ARCHITECTURES[name]


def check_normalisation(mean: Sequence[float], std: Sequence[float]) -> None:
    """Refuses what cannot be the mean and the standard deviation of pixels in [0, 1]."""
    for name, values in (("mean", mean), ("std", std)):
        for value in values:
            if 1 < value <= 255:
                raise UserError(
                    f"expected a {name} of pixels in [0, 1], got {value:g}; in units of 0 to 255? Then divide by 255: "
                    f"{value / 255:.4g}"
                )
            if not 0 <= value <= 1 or (name == "std" and value == 0):  # NaN fails too
                raise UserError(f"expected a {name} {'above 0' if name == 'std' else 'from 0'} to 1, got {value:g}")


def build(
    arch: str,
    shape: Sequence[int],
    classes: int,
    *,
    mean: Sequence[float] = (0.0,),
    std: Sequence[float] = (1.0,),
) -> Network:
    """A fresh network for images [C, H, W]; `mean` and `std`, one for all channels or one each, normalise its input."""
    kind = architecture(arch)
    if len(shape) != 3:
        raise UserError(f"expected images of shape (channels, height, width), got {tuple(shape)}")
    smallest = kind.smallest
    if min(shape[1:]) < smallest:
        raise UserError(f"{arch} needs images of at least {smallest}x{smallest} pixels, got {shape[1]}x{shape[2]}")
    for name, values in (("mean", mean), ("std", std)):
        if len(values) not in (1, shape[0]):
            raise UserError(f"expected 1 or {shape[0]} values for the {name}, got {len(values)}")
    check_normalisation(mean, std)
    network = kind(shape, classes)
    network.normalize.set(mean, std)
    return network
