"""Image classifiers that transformers saved, from a folder or the Hugging Face Hub's cache: `hf:DIR_OR_NAME`."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from robench.models.libraries.provider import Held, Library, Preprocessing, Wish, imported
from robench.models.outputs import LogitsOf
from robench.utils.errors import UserError

TEST_IMAGE = 512
"""Pixels a side of what an image processor is tried on."""


def build(wish: Wish) -> Held:
    library = imported("transformers", "transformers")
    config = _read(library.AutoConfig, wish)
    kind = library.AutoModelForImageClassification
    if wish.weights == "none":
        model = kind.from_config(config, trust_remote_code=False)
    elif wish.weights:
        raise UserError(f"{wish.written}: expected weights=none, or a folder of other weights as hf:DIR")
    else:
        model = _whole(kind, wish)
    for part in model.modules():
        if isinstance(part, library.PreTrainedModel):
            part.name_or_path = part.config._name_or_path = ""  # where it lies, which decides nothing
    channels = getattr(config, "num_channels", 3)
    return Held(
        LogitsOf(model, ("logits",)), _images(library.AutoImageProcessor, wish, channels), wish.weights or "own"
    )


def _read(kind: Any, wish: Wish, **settings: Any) -> Any:
    """What one of transformers' kinds makes of the files of that name."""
    try:
        return kind.from_pretrained(wish.name, local_files_only=not wish.download, trust_remote_code=False, **settings)
    except OSError:
        if Path(wish.name).is_dir() or wish.download:
            raise
        cache = imported("huggingface_hub", "transformers").constants.HF_HUB_CACHE
        raise wish.missing(f"a folder {wish.name} or {cache}") from None


def _whole(kind: Any, wish: Wish) -> nn.Module:
    """With all of its weights, in float32."""
    model: nn.Module
    model, told = _read(kind, wish, output_loading_info=True, dtype=torch.float32)
    if lacking := sorted([*told["missing_keys"], *(str(each[0]) for each in told["mismatched_keys"])]):
        raise UserError(
            f"{wish.written} holds no weights for {', '.join(lacking[:3])}{' and others' if len(lacking) > 3 else ''}, "
            "which transformers would draw at random; give one that was trained to classify images"
        )
    return model


def _images(kind: Any, wish: Wish, channels: int) -> Preprocessing | None:
    """As its image processor makes them; None where it has none."""
    try:
        processor = _read(kind, wish)
    except (OSError, ValueError, UserError):
        return None
    return measured(processor, channels, wish.written)


def measured(processor: Any, channels: int, written: str) -> Preprocessing:
    """What an image processor does, by what it makes of images of one colour: of black ones, and of those in which one
    channel alone is full or half."""
    black, full, half = (
        torch.stack([_made(processor, level * torch.eye(channels)[each]) for each in range(channels)])
        for level in (0, 255, 128)
    )
    slopes = (full - black).T
    order = slopes.abs().argmax(1)
    scale, offset = slopes[range(channels), order], black[0]
    alone = slopes.count_nonzero().item() == channels == len(set(order.tolist()))
    if not alone or (scale <= 0).any() or not torch.allclose((half - black).T, slopes * 128 / 255, atol=1e-4):
        raise UserError(f"{written}: its image processor does more to pixels than normalise them; give a factory")
    mean, std = (-offset / scale).tolist(), (1 / scale).tolist()
    height, width = _shown(processor, torch.zeros(channels)).shape[1:]
    return Preprocessing(
        (channels, height, width),
        _resize(processor, height),
        _told(processor, "image_mean", mean),
        _told(processor, "image_std", std),
        [] if order.tolist() == list(range(channels)) else order.tolist(),
    )


def _shown(processor: Any, colour: Tensor) -> Tensor:
    """What [C, H, W] the processor makes of an image of one colour [C], from 0 to 255."""
    image = colour.to(torch.uint8)[:, None, None].expand(-1, TEST_IMAGE, TEST_IMAGE).numpy()
    shown: Tensor = processor(images=image, return_tensors="pt", input_data_format="channels_first")["pixel_values"][0]
    return shown.double()


def _made(processor: Any, colour: Tensor) -> Tensor:
    shown = _shown(processor, colour)
    return shown[:, shown.shape[1] // 2, shown.shape[2] // 2]


def _told(processor: Any, name: str, values: list[float]) -> list[float]:
    """The values as they are written down, where they are those that were measured."""
    written = getattr(processor, name, None)
    if written is None or len(written) != len(values):
        return values
    same = torch.allclose(torch.tensor(written), torch.tensor(values), atol=1e-5)
    return list(written) if same else values


def _resize(processor: Any, crop: int) -> int:
    """To which the shorter side is resized before the crop."""
    size: dict[str, int] = dict(getattr(processor, "size", None) or {})
    crop_part: float = getattr(processor, "crop_pct", None) or 1
    return int((size.get("shortest_edge") or size.get("height") or crop) / crop_part)


LIBRARY = Library(
    "hf",
    "image classifiers of transformers, of a folder or the Hugging Face Hub",
    build,
    options=("weights",),
)
