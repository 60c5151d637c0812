"""What robench asks of another library's models, and what these are given with."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from robench.models import checkpoint
from robench.models.files.outline import Outline
from robench.models.files.weights import Wanted, fitted
from robench.models.network import Normalize
from robench.utils.errors import UserError

IMAGENET = (3, 224, 224)
"""The images that these libraries' networks are built for, if nothing else is said."""


@dataclass(frozen=True)
class Wish:
    """A model of a library by its `name` there, with what was said beside it; `download`: what is missing may be
    fetched."""

    written: str
    name: str
    options: Mapping[str, str] = field(default_factory=dict)
    download: bool = False

    @property
    def weights(self) -> str | None:
        """The word none, a file's path or the library's name for them; None: its own."""
        return self.options.get("weights")

    @property
    def file(self) -> Path | None:
        """That of the weights, where they are given as one."""
        found = Path(self.weights or "")
        return found if found.is_file() else None

    @property
    def classes(self) -> int | None:
        """As many as were asked for, which random weights alone can be."""
        text = self.options.get("classes")
        if text is None:
            return None
        if self.weights != "none":
            raise UserError(f"{self.written}: its weights say how many classes there are; classes= is for weights=none")
        if not (text.isdecimal() and int(text) > 1):
            raise UserError(f"{self.written}: expected at least 2 classes, got {text!r}")
        return int(text)

    def missing(self, where: str | Path) -> UserError:
        """The error for weights that are not there."""
        return UserError(f"the weights of {self.written} are not in {where}; --download fetches them")


@dataclass(frozen=True)
class Preprocessing:
    """What a model was made for: `shape` [C, H, W], cropped out of images whose shorter side is `resize`; the mean and
    standard deviation of each channel, in the order in which it takes them."""

    shape: tuple[int, int, int]
    resize: int
    mean: Sequence[float] = (0.0,)
    std: Sequence[float] = (1.0,)
    order: Sequence[int] = ()


@dataclass(frozen=True)
class Held:
    """A model as its library builds it. `preprocessing`: None where nobody says. `of`: whose weights these are."""

    model: nn.Module
    preprocessing: Preprocessing | None
    of: str


@dataclass(frozen=True)
class Library:
    """One that is asked as `word:NAME`; `options` may be said beside the name."""

    word: str
    about: str
    build: Callable[[Wish], Held]
    options: tuple[str, ...] = ("weights", "classes")


class Front(nn.Module):
    """Images [B, C, H, W] in [0, 1] as a library's model takes them: its order of channels, normalised."""

    def __init__(self, mean: Sequence[float], std: Sequence[float], order: Sequence[int] = ()) -> None:
        super().__init__()
        self.normalize, self.order = Normalize(), list(order)
        self.normalize.set(mean, std)

    def forward(self, x: Tensor) -> Tensor:
        return self.normalize(x[:, self.order] if self.order else x)  # type: ignore[no-any-return]


def imported(module: str, extra: str) -> Any:
    """A module of a library that robench does not bring itself."""
    try:
        return import_module(module)
    except ImportError as error:
        raise UserError(f'{module} cannot be imported ({error}); pip install "robench[{extra}]"') from None


def filled(build: Callable[..., nn.Module], file: Path, name: str) -> nn.Module:
    """The network `name` with the weights of a file, of as many classes as these are for; `build` takes
    `num_classes`."""
    outline = Outline(lambda _, classes: build(num_classes=classes), IMAGENET, name)
    found = fitted(checkpoint.read(file), str(file), Wanted(outline))
    network = build(num_classes=found.classes) if found.classes else build()
    network.load_state_dict(found.state, strict=False)
    return network


def hub_folder() -> Path:
    """Where torch.hub keeps files of weights, as torchvision and timm do with it."""
    return Path(torch.hub.get_dir()) / "checkpoints"
