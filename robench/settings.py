"""Checks a setting of an attack or a defense against the type its author declared."""

from typing import Any

from pydantic import TypeAdapter, ValidationError

from robench.errors import UserError
from robench.threat import Size, parse_size


def checked(value: Any, kind: Any, where: str) -> Any:
    """The value as `kind`. Whole numbers are counts, so at least 1; others at least 0; a `Size` must be one."""
    try:
        value = TypeAdapter(kind).validate_python(value)
    except ValidationError as error:
        reason = error.errors()[0]["msg"].lower()
        raise UserError(f"{where}: {reason}, got {value!r}") from None
    if kind == Size:
        parse_size(value, 1.0)
    least = 1 if kind is int else 0
    if kind in (int, float) and not value >= least:
        raise UserError(f"{where}: expected at least {least}, got {value}")
    return value
