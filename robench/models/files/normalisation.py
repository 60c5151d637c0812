"""The normalisation that people save beside or among the weights: (x - mean) / std of each channel."""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from robench.models.files.contents import Contents, Path, word
from robench.models.network import check_normalisation, written
from robench.utils.errors import UserError

_MEAN = re.compile(r"(.*?)(mean|mu)(s?)")
_DEVIATIONS = {"mean": ("std", "sd", "sigma", "stddev", "stdev", "std_dev"), "mu": ("sigma", "std")}

NEAR = 5e-4
"""How far two may be apart that were rounded to four digits."""


@dataclass(frozen=True)
class Normalisation:
    """A pair that a file holds: the values, and the paths of both."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    paths: tuple[Path, Path]
    certain: bool
    """whether it can be nothing else: a tensor among the weights, or a number for each of several channels"""

    @property
    def word(self) -> str:
        return f"{word(self.paths[0])} {written(self.mean)}, {word(self.paths[1])} {written(self.std)}"

    def is_near(self, mean: Sequence[float], std: Sequence[float]) -> bool:
        return _near(self.mean, mean) and _near(self.std, std)


def pairs_in(
    contents: Contents, holders: Collection[Path], taken: Collection[Path], channels: int
) -> list[Normalisation]:
    """Every pair of a mean and a std for images of so many channels, but for `taken` tensors, which are weights;
    `holders` are those of the weights."""
    values = {path: tuple(numbers) for path, numbers in contents.numbers.items()}
    for path, tensor in contents.tensors.items():
        if path not in taken and tensor.numel() in (1, channels) and not tensor.is_meta and not tensor.is_complex():
            values[path] = tuple(float(value) for value in tensor.to_dense().flatten().tolist())
    found = []
    for path, mean in values.items():
        for other in _deviations(path):
            if other in values and {len(mean), len(values[other])} <= {1, channels}:
                among = contents.holder.get(path) in holders
                certain = among or len(mean) == channels > 1 or (path in contents.tensors and channels == 1)
                found.append(Normalisation(mean, values[other], (path, other), certain))
    return found


def chosen(
    found: Sequence[Normalisation], mean: Sequence[float] | None, std: Sequence[float] | None, where: str
) -> Normalisation | None:
    """The one that the file says; None where it says none, or where what was given settles it.

    Raises UserError where two differ, or one from what was given, and where it cannot be told what one is."""
    if mean is not None and std is not None:
        for each in found:
            if each.certain and _is_of_pixels(each) and not each.is_near(mean, std):
                raise UserError(
                    f"{where} holds a normalisation ({each.word}), and --mean {written(mean)} --std {written(std)} "
                    "says another; leave out --mean and --std"
                )
        return None
    for each in found:
        if not each.certain:
            raise UserError(
                f"{where} holds {each.word}, which may or may not be its normalisation; say --mean and --std (0 and 1 "
                "where there is none)"
            )
        _check(each, where)
        if not each.is_near(found[0].mean, found[0].std):
            raise UserError(f"{where} holds two normalisations, {found[0].word} and {each.word}; say --mean and --std")
    return found[0] if found else None


def _check(found: Normalisation, where: str) -> None:
    try:
        check_normalisation(found.mean, found.std)
    except UserError as error:
        raise UserError(f"{where} holds a normalisation ({found.word}): {error}; say --mean and --std") from None


def _is_of_pixels(found: Normalisation) -> bool:
    try:
        check_normalisation(found.mean, found.std)
    except UserError:
        return False
    return True


def _deviations(path: Path) -> list[Path]:
    """Where the std lies that goes with the mean at a path; none for the path of anything else."""
    *before, last = path or ("",)
    match = _MEAN.fullmatch(last)
    if not match or match[1].endswith("running_"):
        return []
    return [(*before, f"{match[1]}{deviation}{match[3]}") for deviation in _DEVIATIONS[match[2]]]


def _near(some: Sequence[float], other: Sequence[float]) -> bool:
    if 1 in (len(some), len(other)):
        return all(abs(a - b) <= NEAR for a in some for b in other)
    return len(some) == len(other) and all(abs(a - b) <= NEAR for a, b in zip(some, other, strict=True))
