"""The parts of a data set, and the words that files, folders and keys have for them."""

from collections.abc import Collection
from typing import Literal

from robench.utils.errors import UserError

Part = Literal["train", "test"]

PARTS: dict[Part, tuple[tuple[str, ...], ...]] = {
    "train": (("train", "training"),),
    "test": (("test", "testing"), ("val", "valid", "validation")),
}
"""What they are called, the words of the second line where there is none of the first."""


WORDS = frozenset(word for tiers in PARTS.values() for words in tiers for word in words)


def named(part: Part, names: Collection[str], where: str) -> str | None:
    """The name that means the part, None where none does."""
    for words in PARTS[part]:
        found = sorted(name for name in names if name.lower() in words)
        if len(found) > 1:
            raise UserError(f"{where}: {' and '.join(found)} may both be its {part} images; name one of them alone")
        if found:
            return found[0]
    return None


def divided(names: Collection[str]) -> bool:
    """Whether some name means a part."""
    return any(name.lower() in WORDS for name in names)
