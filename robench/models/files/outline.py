"""What a network's weights are called and shaped, and which of it the images and classes decide."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import nn

from robench.utils.errors import UserError, first_line

Make = Callable[[Sequence[int], int], nn.Module]
"""A fresh network for images [C, H, W] and so many classes, by the names that its weights have in files."""

Sizes = Mapping[str, tuple[int, ...]]

LIKELY = 10
"""Classes for which any network can be made."""


@dataclass(frozen=True)
class Axis:
    """A dimension of a weight, which grows by `step` for each more of something, and is `size` at `count`."""

    dim: int
    step: int
    size: int
    count: int

    def count_of(self, shape: Sequence[int]) -> int | None:
        """How many a weight of this shape is for; None where it is for no whole number."""
        if len(shape) <= self.dim:
            return None
        more, rest = divmod(shape[self.dim] - self.size, self.step)
        return None if rest or self.count + more < 1 else self.count + more

    def accounts_for(self, shape: Sequence[int], other: Sequence[int]) -> bool:
        """Whether two shapes differ in this dimension alone."""
        same = [dim for dim, (size, theirs) in enumerate(zip(shape, other, strict=False)) if size == theirs]
        return len(shape) == len(other) and {*same, self.dim} == {*range(len(shape))} and self.dim not in same


@dataclass(frozen=True)
class Outline:
    """Of the networks that `make` gives for images [C, H, W], which `name` names."""

    make: Make
    shape: tuple[int, ...]
    name: str
    _known: dict[int, Sizes] = field(default_factory=dict)

    @cached_property
    def kinds(self) -> dict[str, torch.dtype]:
        """What each weight is made of, by its name."""
        return {name: weight.dtype for name, weight in self._made(self.shape, LIKELY).state_dict().items()}

    @cached_property
    def head(self) -> dict[str, Axis]:
        """Of the weights that the number of classes decides, the dimension that is it."""
        return _axes(self.sizes(LIKELY), self.sizes(LIKELY + 1), LIKELY)

    @cached_property
    def stem(self) -> dict[str, Axis]:
        """Of the weights that the channels of the images decide, the dimension that is it."""
        channels, *sides = self.shape
        with suppress(Exception):  # a network may be for so many channels alone
            return _axes(self.sizes(LIKELY), _sizes(self._made((channels + 1, *sides), LIKELY)), channels)
        return {}

    def sizes(self, classes: int) -> Sizes:
        """The shape of each weight where there are so many classes."""
        if classes not in self._known:
            self._known[classes] = _sizes(self._made(self.shape, classes))
        return self._known[classes]

    def _made(self, shape: Sequence[int], classes: int) -> nn.Module:
        """Without memory for its weights; where a user's code needs their values, with it."""
        try:
            with torch.device("meta"):
                return self.make(shape, classes)
        except Exception as error:  # such as numbers too large for a size
            if "meta" not in str(error):
                raise self._unmakable(error, shape) from None
        try:
            return self.make(shape, classes)
        except Exception as error:
            raise self._unmakable(error, shape) from None

    def _unmakable(self, error: Exception, shape: Sequence[int]) -> UserError:
        if isinstance(error, UserError):
            return error
        return UserError(f"{self.name} cannot be made for images of {tuple(shape)}: {first_line(error)}")


def _sizes(network: nn.Module) -> Sizes:
    return {name: tuple(weight.shape) for name, weight in network.state_dict().items()}


def _axes(some: Sizes, more: Sizes, count: int) -> dict[str, Axis]:
    """The dimensions that differ between networks for `count` and for one more of something."""
    found = {}
    for name, shape in some.items():
        larger = more.get(name, shape)
        for dim, (size, next_size) in enumerate(zip(shape, larger, strict=False)):
            if next_size > size:
                found[name] = Axis(dim, next_size - size, size, count)
                break
    return found
