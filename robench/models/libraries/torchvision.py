"""torchvision's classifiers: `torchvision:resnet50`, with its newest weights or those of `;weights=IMAGENET1K_V1`."""

from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from torch import nn

from robench.models.libraries.provider import Held, Library, Preprocessing, Wish, filled, hub_folder
from robench.utils.errors import UserError, unknown


def build(wish: Wish) -> Held:
    from torchvision import models

    names = models.list_models(module=models)
    if wish.name not in names:
        raise unknown("model of torchvision", wish.name, names)
    kinds = models.get_model_weights(wish.name)
    network, classes = partial(_network, wish.name), wish.classes
    if wish.file:
        return Held(filled(network, wish.file, wish.written), None, wish.file.stem)
    if wish.weights == "none":
        return Held(network(**({"num_classes": classes} if classes else {})), _images(kinds.DEFAULT), "none")
    chosen = _chosen(wish, kinds)
    if not wish.download and not (hub_folder() / Path(urlparse(chosen.url).path).name).is_file():
        raise wish.missing(hub_folder())
    return Held(models.get_model(wish.name, weights=chosen), _images(chosen), chosen.name)


def _network(name: str, **settings: Any) -> nn.Module:
    from torchvision import models

    network: nn.Module = models.get_model(name, weights=None, **settings)
    return network


def _chosen(wish: Wish, kinds: Any) -> Any:
    word = (wish.weights or "DEFAULT").rpartition(".")[2].upper()
    if word not in kinds.__members__:
        known = ", ".join(weights.name for weights in kinds)
        raise UserError(f"{wish.written}: expected weights={known}, none or a file, got {wish.weights!r}")
    return kinds[word]


def _images(weights: Any) -> Preprocessing:
    told = weights.transforms()
    return Preprocessing((3, *told.crop_size * 2), told.resize_size[0], told.mean, told.std)


LIBRARY = Library("torchvision", "torchvision's classifiers, as torchvision:resnet50", build)
