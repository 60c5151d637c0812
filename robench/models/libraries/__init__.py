"""Models that other libraries hold, by their names there: `torchvision:resnet50`, `timm:NAME;weights=FILE`.

A file here names the library that it asks: `LIBRARY = Library("timm", ...)`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

import torch
from torch import nn

from robench.models.libraries.provider import Front, Held, Library, Preprocessing, Wish, hub_folder
from robench.models.network import check_normalisation
from robench.utils.errors import UserError
from robench.utils.global_rng import reseed, undisturbed
from robench.utils.offline import offline, weights_only
from robench.utils.settings import numbers

_FILES = [import_module(f"robench.models.libraries.{file.name}") for file in iter_modules(__path__)]

LIBRARIES: dict[str, Library] = {
    file.LIBRARY.word: file.LIBRARY for file in _FILES if isinstance(getattr(file, "LIBRARY", None), Library)
}


@dataclass(frozen=True)
class Named:
    """A model of a library behind its normalisation, with what is told of it."""

    model: nn.Module
    arch: str
    notices: list[str]


def about(name: str) -> str:
    """What a library's "WORD:NAME" may be, and what may be said beside it."""
    library = LIBRARIES[name.partition(":")[0]]
    return f"{library.about}\n\n{library.word}:NAME;KEY=VALUE with {', '.join(library.options)}, mean or std"


def is_named(model: Any) -> bool:
    """Whether a model is given by its name in a library."""
    return isinstance(model, str) and model.partition(":")[0] in LIBRARIES


def load(
    written: str,
    *,
    shape: Sequence[int] | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    download: bool = False,
) -> Named:
    """The model of that name, "LIBRARY:NAME;KEY=VALUE", for images `shape` [C, H, W] in [0, 1].

    `mean` and `std` take the place of those of its own configuration. Nothing is fetched without `download`. Raises
    UserError where it is not there, cannot take such images, or nobody says how they are normalised."""
    library, name, options = _parted(written)
    given = {"mean": mean, "std": std}
    for key in {*given} & {*options}:
        if given[key] is not None:
            raise UserError(f"{written} says its own {key}, and another was given; say it once")
        given[key] = numbers(options.pop(key))
    wish = Wish(written, name, options, download)
    held = _built(library, wish)
    model = nn.Sequential(_front(held.preprocessing, given, wish), held.model).eval()
    notices = _compared(model, held.preprocessing, shape, written) if held.preprocessing and shape else []
    return Named(model, f"{library.word} {name}, weights {held.of}", notices)


def _parted(written: str) -> tuple[Library, str, dict[str, str]]:
    """The library, the name there and what is said beside it."""
    named, *parts = written.split(";")
    word, _, name = named.partition(":")
    library = LIBRARIES[word]
    options = dict(part.partition("=")[::2] for part in parts)
    if not name:
        raise UserError(f"expected {word}:NAME, got {written!r}; NAME is one of {library.about}")
    if len(options) < len(parts):
        raise UserError(f"expected each key once, got {written!r}")
    known = (*library.options, "mean", "std")
    for key, value in options.items():
        if key not in known or not value:
            raise UserError(
                f"expected {word}:NAME;KEY=VALUE with a key of {', '.join(known)}, got {key!r} in {written!r}"
            )
    return library, name, options


def _front(made_for: Preprocessing | None, given: Mapping[str, Sequence[float] | None], wish: Wish) -> Front:
    """By the mean and the standard deviation that were given, else by those of its own configuration."""
    mean, std = given["mean"], given["std"]
    if (mean is None) != (std is None):
        raise UserError(f"{wish.written}: expected mean and std together, got one of them")
    if mean is None or std is None:
        if made_for is None:
            raise UserError(
                f"{wish.written}: nobody says how its images are normalised; add ;mean=0.485,0.456,0.406;"
                "std=0.229,0.224,0.225, those of ImageNet, or ;mean=0;std=1 for none"
            )
        return Front(made_for.mean, made_for.std, made_for.order)
    check_normalisation(mean, std)
    if made_for and not {len(mean), len(std)} <= {1, made_for.shape[0]}:
        raise UserError(f"{wish.written}: expected 1 or {made_for.shape[0]} values for mean and std, got {len(mean)}")
    return Front(mean, std, made_for.order if made_for else ())


def _built(library: Library, wish: Wish) -> Held:
    """What the library builds: from nothing but its files, and with the same weights each time they are random."""
    refused: list[str] = []
    try:
        with undisturbed(torch.device("cpu")), weights_only():
            reseed(0)
            if wish.download:
                return library.build(wish)
            with offline() as refused:
                return library.build(wish)
    except UserError:
        raise
    except Exception as error:  # whatever another library does
        if refused:
            raise wish.missing(f"{hub_folder()}, and {refused[0]} is asked for nothing") from None
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(f"{wish.written} cannot be loaded: {type(error).__name__}: {reason}") from error


def _compared(model: nn.Module, made_for: Preprocessing, shape: Sequence[int], written: str) -> list[str]:
    """What is to be said of images of another size than the model was made for; such as it cannot take are refused."""
    size, given = (f"{height}x{width}" for _, height, width in (made_for.shape, shape))
    if shape[0] != made_for.shape[0]:
        raise UserError(
            f"{written} takes images of {made_for.shape[0]} channels, these have {shape[0]}; "
            f"DATASET@{'x'.join(map(str, made_for.shape))} gives them so many"
        )
    if size == given:
        return []
    fit = f"--resize {made_for.resize} --crop {made_for.shape[1]} makes images so large"
    try:
        with torch.no_grad():
            model(torch.zeros(1, *shape))
    except Exception:  # of any kind, from a model that takes one size
        raise UserError(f"{written} takes images of {size}, these are {given}; {fit}") from None
    return [f"{written} was made for images of {size}, these are {given}; {fit}"]
