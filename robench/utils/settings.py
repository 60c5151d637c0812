"""Settings of attacks and defenses: read as people write them, checked against the type their author declared."""

import math
from typing import Any

from pydantic import TypeAdapter, ValidationError

from robench.utils import yaml_text
from robench.utils.errors import UserError
from robench.utils.sizes import COUNT, Size, parse_size
from robench.utils.text import shortly


def checked(value: Any, kind: Any, where: str) -> Any:
    """The value as `kind`. Whole numbers are counts, so at least 1; others at least 0; a `Size` must be one."""
    try:
        value = TypeAdapter(kind).validate_python(value)
    except ValidationError as error:
        reason = error.errors()[0]["msg"].lower()
        raise UserError(f"{where}: {reason}, got {shortly(value)}") from None
    if kind == Size:
        parse_size(value, 1.0)
    least = 1 if kind is int else 0
    if kind in (int, float) and not least <= value < math.inf:
        raise UserError(f"{where}: expected a finite number of at least {least}, got {value}")
    if kind is int and value >= COUNT:
        raise UserError(f"{where}: expected a number below {COUNT:,}, got {shortly(value)}")
    return value


def assignment(text: str) -> tuple[str, Any]:
    """A key and its value from "key=value", the value read as YAML."""
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise UserError(f"expected settings as key=value, got {text!r}")
    try:
        return key.strip(), yaml_text.read(value)
    except (ValueError, OverflowError):
        raise UserError(f"expected a number, a word or a [list] after {key}=, got {shortly(value)}") from None


def numbers(text: str) -> list[float]:
    """Numbers from "0.49,0.48,0.45"."""
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise UserError(f"expected numbers separated by commas, got {text!r}") from None
