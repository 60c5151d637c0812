"""What one attack did, as arrays over the examples: the ledger's rows for whoever counts them."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import reduce
from typing import Any

import numpy as np
import pyarrow as pa

from robench.ledger import UNFINISHED, Cell

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Tally:
    """Columns of the ledger, each [N], in order of example. `fooled` and `final` are False where they are not `known`
    or not `read`; `first_step` is -1 where no candidate fooled; `share_right` is NaN for a deterministic model."""

    example: Array
    label: Array
    clean_prediction: Array
    fooled: Array
    known: Array
    final: Array
    read: Array
    first_step: Array
    status: Array
    message: Array
    forwards: Array
    backwards: Array
    queries: Array
    seconds: Array
    share_right: Array

    @classmethod
    def of(cls, rows: pa.Table) -> "Tally":
        columns = {name: rows[name] for name in rows.column_names}
        plain = ("example", "label", "clean_prediction", "forwards", "backwards", "queries", "seconds")
        return cls(
            **{name: columns[name].to_numpy() for name in (*plain, "share_right", "message")},
            fooled=columns["fooled"].fill_null(False).to_numpy(),
            known=columns["fooled"].is_valid().to_numpy(),
            final=columns["fooled_final"].fill_null(False).to_numpy(),
            read=columns["fooled_final"].is_valid().to_numpy(),
            first_step=columns["first_step"].fill_null(-1).to_numpy(),
            status=columns["status"].to_numpy(),
        )

    def __len__(self) -> int:
        return len(self.example)

    def at(self, examples: Array) -> "Tally":
        """Of these examples, in order, all of which it has."""
        if len(examples) == len(self):
            return self
        return self.where(np.isin(self.example, examples))

    def where(self, chosen: Array) -> "Tally":
        """Of the examples chosen by a mask [N]."""
        return Tally(**{field.name: getattr(self, field.name)[chosen] for field in fields(self)})

    @property
    def correct(self) -> Array:
        """Where the model is right on the clean image."""
        right: Array = self.clean_prediction == self.label
        return right

    @property
    def finished(self) -> Array:
        """Where the row tells something of the attack."""
        return ~np.isin(self.status, UNFINISHED)

    @property
    def skipped(self) -> Array:
        """Where another attack had broken the example already."""
        spared: Array = self.status == "skipped"
        return spared


def tally(cells: Mapping[str, Cell], n: int | None = None) -> dict[str, Tally]:
    """Of each cell, over the examples that all of them have, of the first `n` where it is given."""
    everything = {name: Tally.of(cell.table()) for name, cell in cells.items()}
    shared = reduce(_intersection, (each.example for each in everything.values()))
    shared = shared if n is None else shared[shared < n]
    return {name: each.at(shared) for name, each in everything.items()}


def _intersection(a: Array, b: Array) -> Array:
    return a if np.array_equal(a, b) else np.intersect1d(a, b)
