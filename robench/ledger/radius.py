"""A radius as people write it."""

from fractions import Fraction

SAME = 1e-6
"""How far two radii may be apart and be one: the absolute tolerance of the judge."""


def radius(eps: float | str) -> str:
    """As people write it, however it was given: a short decimal, else so many of 255 levels, else six digits."""
    try:
        value = float(Fraction(eps))
    except (ValueError, ZeroDivisionError):  # of a ledger that someone else wrote
        return str(eps)
    short, levels = f"{value:.3g}", round(value * 255)
    if abs(float(short) - value) <= SAME:
        return short
    return f"{levels}/255" if levels and abs(levels / 255 - value) <= SAME else f"{value:.6g}"
