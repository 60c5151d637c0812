"""Names and messages that come from outside, made fit to be shown."""

import re
from typing import Any
from unicodedata import category

_BREAKS = re.compile("[\t\n\v\f\r\x1c-\x1e\x85\u2028\u2029]+")

LONGEST = 80
"""Characters of an object in a sentence."""

_HIDDEN = {"Cc", "Cf", "Cs", "Co", "Cn"}
"""Kinds of characters that show nothing by themselves: they move a cursor, colour, or turn the direction of writing."""


def cleaned(text: str) -> str:
    """The text on one line, in which every character shows; what would not is written out, such as `\\x1b`."""
    return text if text.isprintable() else "".join(map(_shown, _BREAKS.sub(" ", text)))


def described(value: Any) -> str:
    """Any object in a few words: as it is written, if that is short, and its type."""
    try:
        text = cleaned(repr(value))
    except Exception:  # whatever a user's class does
        text = "something"
    return f"{text if len(text) <= LONGEST else text[: LONGEST - 3] + '...'} of type {type(value).__name__}"


def cleaned_all(value: Any) -> Any:
    """A JSON-like value, all text in it cleaned."""
    if isinstance(value, str):
        return cleaned(value)
    if isinstance(value, dict):
        return {cleaned_all(key): cleaned_all(each) for key, each in value.items()}
    return [cleaned_all(each) for each in value] if isinstance(value, list) else value


def _shown(character: str) -> str:
    return character.encode("unicode_escape").decode() if category(character) in _HIDDEN else character
