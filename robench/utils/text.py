"""Names and messages that come from outside, made fit to be shown."""

import re
from reprlib import Repr
from typing import Any
from unicodedata import category

_BREAKS = re.compile("[\t\n\v\f\r\x1c-\x1e\x85\u2028\u2029]+")

_SHORT = Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 120
_SHORT.maxdict = _SHORT.maxlist = 10

_HIDDEN = {"Cc", "Cf", "Cs", "Co", "Cn"}
"""Kinds of characters that show nothing by themselves: they move a cursor, colour, or turn the direction of writing."""


def cleaned(text: str) -> str:
    """The text on one line, in which every character shows; what would not is written out, such as `\\x1b`."""
    return text if text.isprintable() else "".join(map(_shown, _BREAKS.sub(" ", text)))


def shortly(value: Any) -> str:
    """A value as one would write it, cut where it is long or deep."""
    return _SHORT.repr(value)


def described(value: Any) -> str:
    """A value as one would write it, cut where it is long, and its type."""
    return f"{cleaned(shortly(value))} of type {type(value).__name__}"


def cleaned_all(value: Any) -> Any:
    """A JSON-like value, all text in it cleaned."""
    if isinstance(value, str):
        return cleaned(value)
    if isinstance(value, dict):
        return {cleaned_all(key): cleaned_all(each) for key, each in value.items()}
    return [cleaned_all(each) for each in value] if isinstance(value, list) else value


def _shown(character: str) -> str:
    return character.encode("unicode_escape").decode() if category(character) in _HIDDEN else character
