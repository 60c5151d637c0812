"""The networks, by the name that a checkpoint and `--arch` call them.

A file here, or a user's own, names the networks that it holds: `NETWORKS = {"lenet": LeNet}`.
"""

from collections.abc import Sequence
from importlib import import_module
from pkgutil import iter_modules

from torch import nn

from robench.models.files.outline import Outline
from robench.models.network import Network, Normalised, check_normalisation, normalised
from robench.models.users_code import Maker, called_network, maker
from robench.utils import registry
from robench.utils.errors import UserError, unknown

_FILES = [import_module(f"robench.models.{file.name}") for file in iter_modules(__path__)]

ARCHITECTURES: dict[str, type[Network]] = {
    name: kind for file in _FILES for name, kind in getattr(file, "NETWORKS", {}).items()
}


def architecture(name: str) -> Maker:
    """The class of the networks of that name, or what the user's FILE.py:NAME makes them by, which runs that file."""
    if registry.users_file(name):
        return maker(name)
    if name not in ARCHITECTURES:
        raise unknown("architecture", name, ARCHITECTURES)
    return ARCHITECTURES[name]


def build(
    arch: str,
    shape: Sequence[int],
    classes: int,
    *,
    mean: Sequence[float] = (0.0,),
    std: Sequence[float] = (1.0,),
) -> Network:
    """As `make`, of what must show its features.

    Raises UserError where it is another module of the user's."""
    network = make(arch, shape, classes, mean=mean, std=std)
    if not isinstance(network, Network):
        raise UserError(f"expected a Network, which shows its features, got {arch}")
    return network


def make(
    arch: str,
    shape: Sequence[int],
    classes: int,
    *,
    mean: Sequence[float] = (0.0,),
    std: Sequence[float] = (1.0,),
) -> Network | Normalised:
    """A fresh network for images [C, H, W]; `mean` and `std`, one for all channels or one each, normalise its input."""
    return make_by(architecture(arch), arch, shape, classes, mean=mean, std=std)


def make_by(
    kind: Maker,
    arch: str,
    shape: Sequence[int],
    classes: int,
    *,
    mean: Sequence[float] = (0.0,),
    std: Sequence[float] = (1.0,),
) -> Network | Normalised:
    """As `make`, by what `architecture` gave for the name `arch`."""
    if len(shape) != 3:
        raise UserError(f"expected images of shape (channels, height, width), got {tuple(shape)}")
    smallest = getattr(kind, "smallest", 1)
    if min(shape[1:]) < smallest:
        raise UserError(f"{arch} needs images of at least {smallest}x{smallest} pixels, got {shape[1]}x{shape[2]}")
    check_normalisation(mean, std, shape[0])
    is_network = isinstance(kind, type) and issubclass(kind, Network)
    made = kind(shape, classes) if is_network else called_network(kind, arch, shape, classes)
    return normalised(made, arch, mean, std)


def carrier(network: Network | Normalised) -> nn.Module:
    """The module by whose names its weights are known: a user's own, where that stands behind a normalisation."""
    return network.model if isinstance(network, Normalised) else network


def outline_of(kind: Maker, arch: str, shape: Sequence[int]) -> Outline:
    """What the weights of the networks are called and shaped that `architecture` gave for the name `arch`."""
    return Outline(lambda shape, classes: carrier(make_by(kind, arch, shape, classes)), tuple(shape), arch)
