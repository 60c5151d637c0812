"""Lengths as people write them, "8/255", 0.03, "eps/4", and the norms in which they are meant."""

import re
from math import inf
from typing import Literal, cast, get_args

from robench.utils.errors import UserError

Norm = Literal["linf", "l2"]

Size = str | float
"""A length in the units of the threat: a number, "2/255", or a multiple of the radius such as "eps/4"."""

COUNT = 10**9
"""Below which every count is that somebody may mean."""

SEEDS = 2**31
"""There are so many: what every library's generator takes, with room for restarts."""

_FACTOR = r"(?:eps|\d+\.?\d*(?:[eE][+-]?\d+)?|\.\d+(?:[eE][+-]?\d+)?)"
_SIZE = re.compile(rf"\s*{_FACTOR}(?:\s*[*/]\s*{_FACTOR})*\s*")


def check_norm(norm: str) -> None:
    """Refuses what is no norm."""
    if norm not in get_args(Norm):
        raise UserError(f"expected a norm among {', '.join(get_args(Norm))}, got {norm!r}")


def parse_size(written: Size, eps: float | None = None) -> float:
    """The value of a `Size`; `eps` is the radius that the word "eps" stands for (where it may stand)."""
    text = str(written)
    if not _SIZE.fullmatch(text) or (eps is None and "eps" in text):
        form = "a positive number or a fraction such as 8/255" + ("" if eps is None else ", or a share of eps as eps/4")
        raise UserError(f"expected {form}, got {text!r}")
    value, operator = 1.0, "*"
    for token in re.findall(rf"{_FACTOR}|[*/]", text):
        if token in "*/":
            operator = token
            continue
        factor = cast(float, eps) if token == "eps" else float(token)
        if operator == "/" and factor == 0:
            raise UserError(f"expected a length, got {text!r}, which divides by zero")
        value = value * factor if operator == "*" else value / factor
    if not value < inf:
        raise UserError(f"expected a length, got {text!r}, which is infinite")
    return value


def check_seed(seed: int) -> None:
    """Raises where a seed is none."""
    if seed < 0:
        raise UserError(f"expected a seed of at least 0, got {seed}")
    if seed >= SEEDS:
        raise UserError(f"expected a seed below {SEEDS}, got {seed}")


def check_count(value: int | None, what: str) -> None:
    """Raises where a count that was given is none."""
    if value is not None and not 1 <= value < COUNT:
        raise UserError(f"expected {what} of at least 1 and below {COUNT:,}, got {value}")
