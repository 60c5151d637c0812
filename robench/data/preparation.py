"""How images of any size are brought to one, as torchvision's transforms do it."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from PIL import Image
from torch import Tensor

from robench.data import pictures
from robench.utils.errors import UserError

OPTIONS = ("resize", "crop")

Side = int | str | Sequence[int]
"""A length in pixels, or a height and a width: 256, "256", "224x224", (224, 224)."""


@dataclass(frozen=True)
class Preparation:
    """torchvision's Resize, of the shorter side or to a height and width, and its CenterCrop after it; None leaves one
    out. `str` gives its options as a data set's word has them."""

    resize: int | tuple[int, int] | None = None
    crop: int | tuple[int, int] | None = None

    @classmethod
    def of(cls, said: Mapping[str, Side | None]) -> Self:
        """From what is said as `resize` and `crop`."""
        return cls(*(_sides(option, said.get(option)) for option in OPTIONS))

    def __bool__(self) -> bool:
        return (self.resize, self.crop) != (None, None)

    @property
    def options(self) -> dict[str, str]:
        said = {option: getattr(self, option) for option in OPTIONS if getattr(self, option) is not None}
        return {option: _written(sides) for option, sides in said.items()}

    @property
    def transform(self) -> Callable[[Any], Any]:
        """Takes an image of PIL, and gives one."""
        from torchvision.transforms import CenterCrop, Compose, Resize

        steps = [Resize(self.resize)] if self.resize is not None else []
        return Compose([*steps, *([CenterCrop(self.crop)] if self.crop is not None else [])])  # type: ignore[no-any-return]


def _sides(option: str, said: Side | None) -> int | tuple[int, int] | None:
    if said is None:
        return None
    text = "x".join(map(str, said)) if isinstance(said, tuple | list) else str(said)
    if not re.fullmatch(r"[1-9]\d*(x[1-9]\d*)?", text):
        raise UserError(f"expected {option} in pixels, such as 224, or a height and a width, 224x224, got {said!r}")
    height, _, width = text.partition("x")
    return (int(height), int(width)) if width else int(height)


def _written(sides: int | tuple[int, int]) -> str:
    return "x".join(map(str, sides)) if isinstance(sides, tuple) else str(sides)


def prepared(images: Tensor, preparation: Preparation, where: str) -> Tensor:
    """images [N, C, H, W], uint8, each as PIL has it."""
    if images.dtype != torch.uint8 or images.shape[1] not in (1, 3):
        raise UserError(
            f"{where}: expected images of 8 bits in 1 or 3 channels to resize or crop, got "
            f"{tuple(images.shape[1:])} of {str(images.dtype).removeprefix('torch.')}"
        )
    arrays = (image.permute(1, 2, 0).squeeze(2).numpy() for image in images)
    transform = preparation.transform
    return torch.stack([torch.tensor(pictures.pixels(Image.fromarray(x), transform=transform)) for x in arrays])
