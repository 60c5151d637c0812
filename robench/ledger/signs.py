"""What the diagnosis found of each example, as it stands in the ledger: evidence for the verdict.

Torch-free; `robench.evaluation.diagnosis` writes what is read here. Documents of before say how many examples have a
sign, not which, and which of the examples probed PGD leaves, not their ids.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

GRADIENT = ("zero", "nonfinite", "saturated")
RADII = {"eps": "eps", "twice": "twice", "extreme": "extreme", "more draws": "more_draws"}
"""The names of PGD's runs in a document, and in `Signs`."""


@dataclass(frozen=True)
class Signs:
    """Of the examples that were probed, each [N]: whether the gradient is zero, whether it is not finite, whether the
    softmax is 1 and 0; whether PGD breaks them at eps, at twice that, at the extreme radius, and at eps with more
    draws; and whether a candidate within eps was verified to break them. False where they were not probed."""

    probed: Array
    zero: Array
    nonfinite: Array
    saturated: Array
    eps: Array
    twice: Array
    extreme: Array
    more_draws: Array
    broken: Array

    @classmethod
    def of(cls, bits: Array) -> "Signs":
        """From one integer an example [N], as `bits_of` gives."""
        return cls(**{field.name: (bits >> place) % 2 == 1 for place, field in enumerate(fields(cls))})

    @property
    def guided(self) -> Array:
        """Probed, with a gradient to follow."""
        found: Array = self.probed & ~self.zero & ~self.nonfinite
        return found


COUNT = len(fields(Signs))


def bits_of(found: Mapping[str, Any] | None, example: Array, correct: Array) -> Array:
    """What was found of the examples with these ids [N], a bit for each field of `Signs`; `correct` [N]: the model is
    right on them when clean. A document that does not name its examples breaks none."""
    bits = np.zeros(len(example), dtype=np.int64)
    if found is None or not found["standing"].get("eps"):
        return bits
    left = {ours: found["standing"][name] for name, ours in RADII.items() if name in found["standing"]}
    ids = np.array(
        found["ids"] if "ids" in found else example[correct & (example < found["probed"])][: len(left["eps"])]
    )
    columns = {name: ~np.array(stands, dtype=bool)[: len(ids)] for name, stands in left.items()}
    columns["probed"] = np.ones(len(ids), dtype=bool)
    if "ids" in found:
        columns |= {name: np.array(found[name], dtype=bool) for name in (*GRADIENT, "broken")}
    _, here, there = np.intersect1d(example, ids, return_indices=True)
    for place, field in enumerate(fields(Signs)):
        if field.name in columns:
            bits[here] |= columns[field.name][there].astype(np.int64) << place
    return bits


def count(found: Mapping[str, Any], sign: str) -> int:
    """How many of the examples probed have one of the signs of `GRADIENT`."""
    value = found.get(sign, 0)
    return sum(value) if isinstance(value, list) else int(value)
