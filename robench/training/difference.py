"""In what one training differs from another, for people."""

from collections.abc import Mapping
from typing import Any


def difference(made: Mapping[str, Any] | None, wanted: Mapping[str, Any]) -> str:
    """What differs between the keys of two trainings; the settings by their names and values."""
    if made is None:
        return "an earlier version of robench began it"
    if "data" not in made and "source" not in made:
        return "an earlier version of robench made it, which did not note its images and code"
    found = []
    for name in sorted({*made, *wanted}):
        old, new = made.get(name), wanted.get(name)
        if old == new:
            continue
        if name in ("setup", "settings") and isinstance(old, Mapping) and isinstance(new, Mapping):
            changed = sorted(key for key in {*old, *new} if old.get(key) != new.get(key))
            found += [f"{key} {old.get(key)}, not {new.get(key)}" for key in changed]
        elif name in _WORDS:
            found.append(_WORDS[name])
        else:
            found.append(f"{name} {old}, not {new}")
    return "; ".join(found)


_WORDS = {
    "data": "other training images",
    "source": "other code",
    "init": "other weights to begin with",
    "alone": "its code cannot be fully described, so it cannot be told whether it is the same",
}
