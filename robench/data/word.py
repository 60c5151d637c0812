"""The word that asks for a data set, in its parts."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from robench.data import resize
from robench.utils.errors import UserError, unknown

_WITH_OPTIONS = re.compile(r"(.+?)\?(\w+=[^&?]*(?:&\w+=[^&?]*)*)")


@dataclass(frozen=True)
class Word:
    """ "KIND:WHERE?key=value&key=value@CxHxW", or the name of a set in place of KIND:WHERE; only that must be there."""

    name: str
    options: Mapping[str, str]
    shape: tuple[int, int, int] | None

    @classmethod
    def parse(cls, written: str) -> Self:
        name, shape = resize.named(written)
        if not (found := _WITH_OPTIONS.fullmatch(name)):
            return cls(name, {}, shape)
        return cls(found[1], dict(option.split("=", 1) for option in found[2].split("&")), shape)

    def __str__(self) -> str:
        written = self.name
        if self.options:
            written += "?" + "&".join(f"{key}={value}" for key, value in self.options.items())
        return resize.name_of(written, self.shape) if self.shape else written

    @property
    def kind(self) -> str:
        return self.name.partition(":")[0]

    @property
    def where(self) -> str:
        """A path, or nothing where it is the name of a set."""
        return self.name.partition(":")[2]

    @property
    def short(self) -> str:
        """Without the folders of its path."""
        return str(Word(f"{self.kind}:{Path(self.where).name}" if self.where else self.name, self.options, self.shape))

    def with_options(self, more: Mapping[str, str]) -> "Word":
        """It with more options, none of which it has already."""
        if said := [key for key in more if key in self.options]:
            raise UserError(f"{self} says its own {said[0]}, and another was given; say it once")
        return Word(self.name, {**self.options, **more}, self.shape)

    def check_options(self, known: Collection[str]) -> None:
        for option in self.options:
            if option not in known:
                raise unknown(f"option of {self.name}:", option, known)
