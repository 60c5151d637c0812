"""What is said of a model beside its path, by options or in the path itself."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from robench.models.network import check_normalisation
from robench.utils.errors import UserError
from robench.utils.settings import numbers


@dataclass(frozen=True)
class Said:
    """What is said of a model beside its path: of a file the architecture, and under which key its weights are; of any
    the normalisation of its input."""

    arch: str | None = None
    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None
    weights: str | None = None

    def with_own(self, own: Mapping[str, Any], whose: str) -> "Said":
        """With what a path says of itself."""
        if both := [name for name in own if getattr(self, name) is not None]:
            raise UserError(f"{whose} says its own {both[0]}, and another was given; say it once")
        return replace(self, **own)

    def check(self, shape: Sequence[int] | None) -> None:
        if (self.mean is None) != (self.std is None):
            raise UserError(f"expected mean and std together, got the {'mean' if self.std is None else 'std'} alone")
        if self.mean is not None and self.std is not None:
            check_normalisation(self.mean, self.std, shape[0] if shape else None)

    def refuse_of_file(self, name: str) -> None:
        """Raises UserError where what is for a file of weights was said of a model that is none."""
        for word, value in (("arch", self.arch), ("weights", self.weights)):
            if value is not None:
                raise UserError(f"{word} is said of a file of weights, which {name} is not; leave it out")


def described(written: str) -> tuple[str, dict[str, Any]]:
    """A path, and what is said of the file: "FILE;arch=NAME;mean=0.49,0.48,0.45;std=0.25;weights=KEY"."""
    path, *parts = written.split(";")
    said: dict[str, Any] = {}
    for part in parts:
        key, value = part.partition("=")[::2]
        if key not in ("arch", "mean", "std", "weights") or not value:
            raise UserError(
                f"expected FILE;arch=NAME;mean=NUMBERS;std=NUMBERS;weights=KEY, got {part!r} in {written!r}"
            )
        said[key] = numbers(value) if key in ("mean", "std") else value
    return path, said
