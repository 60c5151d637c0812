"""The networks, by the name that a checkpoint and `--arch` call them.

A file here, or a user's own, names the networks that it holds: `NETWORKS = {"lenet": LeNet}`.
"""

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

from robench.models.network import Network, check_normalisation
from robench.utils import registry
from robench.utils.errors import UserError, unknown

_FILES = [import_module(f"robench.models.{file.name}") for file in iter_modules(__path__)]

ARCHITECTURES: dict[str, type[Network]] = {
    name: kind for file in _FILES for name, kind in getattr(file, "NETWORKS", {}).items()
}


def architecture(name: str) -> type[Network]:
    """The class of the networks of that name, or of a user's .py file that names one."""
    if name.endswith(".py"):
        return _of_user(Path(name))
    if name not in ARCHITECTURES:
        raise unknown("architecture", name, ARCHITECTURES)
    return ARCHITECTURES[name]


def _of_user(path: Path) -> type[Network]:
    networks: dict[str, type[Network]] = getattr(registry.load_file(path), "NETWORKS", {})
    if len(networks) != 1:
        raise UserError(f"expected a table NETWORKS of one network by its name in {path}, found {len(networks)}")
    return next(iter(networks.values()))


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
