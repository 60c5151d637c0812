"""timm's classifiers: `timm:convnext_tiny.fb_in1k`, the weights named after the dot."""

import math
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import torch

from robench.models.libraries.provider import Held, Library, Preprocessing, Wish, filled, hub_folder, imported
from robench.utils.errors import UserError, unknown

HUB_FILES = ("model.safetensors", "pytorch_model.bin")
"""What weights are called on the Hugging Face Hub."""


def build(wish: Wish) -> Held:
    timm = imported("timm", "timm")
    _check_name(timm, wish.name)
    network, classes = partial(timm.create_model, wish.name), wish.classes
    if wish.file:
        return Held(filled(network, wish.file, wish.written), None, wish.file.stem)
    if wish.weights == "none":
        model, of = network(num_classes=classes), "none"
    else:
        file, of = _file(timm, wish)
        model = network(pretrained=True, pretrained_cfg_overlay={"file": str(file)})
    if not model.num_classes:
        raise UserError(f"{wish.written} gives features and no logits; a classifier is asked for")
    return Held(model, _images(timm, model), of)


def _check_name(timm: Any, name: str) -> None:
    kind, _, tag = name.partition(".")
    if not timm.is_model(kind):
        raise unknown("model of timm", kind, timm.list_models())
    if tag and not timm.models.is_model_pretrained(name):
        raise unknown(f"weights of timm's {kind}", name, timm.list_pretrained(f"{kind}.*"))


def _file(timm: Any, wish: Wish) -> tuple[Path, str]:
    """timm's own weights, and what it calls them."""
    if wish.weights:
        raise UserError(f"{wish.written}: expected weights=none or a file; timm's own are named as timm:NAME.WEIGHTS")
    config = timm.get_pretrained_cfg(wish.name)
    if config is None or not config.has_weights:
        raise UserError(f"timm has no weights of {wish.name}; give ;weights=FILE, or ;weights=none for random ones")
    return _on_hub(config, wish) if config.hf_hub_id else _at_url(config, wish), config.tag or "own"


def _on_hub(config: Any, wish: Wish) -> Path:
    hub = imported("huggingface_hub", "timm")
    files = (config.hf_hub_filename,) if config.hf_hub_filename else HUB_FILES
    cached = (hub.try_to_load_from_cache(config.hf_hub_id, file) for file in files)
    found = next((file for file in cached if isinstance(file, str)), None)
    if found is None and not wish.download:
        raise wish.missing(hub.constants.HF_HUB_CACHE)
    return Path(found or hub.hf_hub_download(config.hf_hub_id, files[0]))


def _at_url(config: Any, wish: Wish) -> Path:
    url, name = config.url if isinstance(config.url, tuple) else (config.url, Path(urlparse(config.url).path).name)
    file: Path = hub_folder() / name
    if not file.is_file():
        if not wish.download:
            raise wish.missing(file.parent)
        file.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(file), progress=False)
    return file


def _images(timm: Any, model: Any) -> Preprocessing:
    told = timm.data.resolve_model_data_config(model)
    channels, height, width = told["input_size"]
    return Preprocessing((channels, height, width), math.floor(height / told["crop_pct"]), told["mean"], told["std"])


LIBRARY = Library("timm", "timm's classifiers, as timm:convnext_tiny.fb_in1k", build)
