"""What robench says when it cannot go on."""

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(Exception):
    """The user's input was wrong. The message is one sentence: what was expected, what was given, the remedy."""


class Notice(UserWarning):
    """Something was done otherwise than the words of a call may suggest."""


class AttackError(Exception):
    """An attack broke its contract (asked for what it may not see, offered images of another shape)."""


class NoGradient(AttackError):  # noqa: N818
    """No path leads from the loss back to the image, so that there is no gradient to follow."""


def unknown(kind: str, name: str, known: Iterable[str]) -> UserError:
    """The error for a name that is not among the known ones, with the nearest of them."""
    names = sorted(known)
    near = get_close_matches(name, names, n=1, cutoff=0.4)
    hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(names) or 'none'}"
    return UserError(f"unknown {kind} {name!r}; {hint}")


def first_line(error: Exception) -> str:
    """What an error of another library says, short enough for a sentence."""
    return (str(error).splitlines() or [type(error).__name__])[0]
