"""What robench says when it cannot go on."""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches

from robench.utils.text import cleaned

SHOWN = 40
"""Names that a sentence lists at most."""


class UserError(Exception):
    """The user's input was wrong. The message is one sentence on one line: what was expected, what was given, the
    remedy."""

    def __str__(self) -> str:
        return cleaned(super().__str__())


class Notice(UserWarning):
    """Something was done otherwise than the words of a call may suggest."""


class AttackError(Exception):
    """An attack broke its contract (asked for what it may not see, offered images of another shape)."""


class NoGradient(AttackError):  # noqa: N818
    """No path leads from the loss back to the image, so that there is no gradient to follow."""


def unknown(kind: str, name: str, known: Iterable[str], synonyms: Mapping[str, str] | None = None) -> UserError:
    """The error for a name that is not among the known ones, with the one that it is a synonym of, or the nearest."""
    names = sorted(known)
    meant = (synonyms or {}).get(name)
    near = [meant] if meant in names else get_close_matches(name, names, n=1, cutoff=0.4)
    more = f" and {len(names) - SHOWN} others" if len(names) > SHOWN else ""
    hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(names[:SHOWN]) or 'none'}{more}"
    return UserError(f"unknown {kind} {name!r}; {hint}")


def first_line(error: Exception) -> str:
    """What an error of another library says, short enough for a sentence."""
    return (str(error).splitlines() or [type(error).__name__])[0]
