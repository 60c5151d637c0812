"""Suites: named lists of attacks."""

from typing import Literal

from robench.specs.choices import Mode
from robench.utils import registry
from robench.utils.errors import unknown
from robench.utils.registry import Strict

Readings = Literal["any", "final"]
"""Whether some iterate fooled the model, or whether the last one did as well (no example leaves the run then)."""


class Suite(Strict):
    """A named list of attacks, how their iterates are read, and on which examples they are run by default."""

    attacks: list[str]
    readings: Readings = "any"
    mode: Mode = "columns"
    minimum: bool = False
    """models that met all of it are ranked together, whatever else they met"""


def suite(name: str) -> Suite:
    known = registry.names("benchmarks", "suites/*.yaml")
    if name not in known:
        raise unknown("suite", name, known)
    path = registry.folder("benchmarks") / "suites" / f"{name}.yaml"
    return registry.parse(Suite, registry.read_yaml(path), f"suite {name}")
