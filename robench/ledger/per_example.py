"""What one attack did, as arrays over the examples: the ledger's rows, to be counted.

To count a cell of any size, examples that fared alike under all attacks are put together, window by window.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import reduce
from typing import Any

import numpy as np
import pyarrow as pa

from robench.ledger import signs
from robench.ledger.cell import Cell
from robench.ledger.parts import windows
from robench.ledger.schema import CLEAN, DIAGNOSIS, ROW, UNFINISHED

Array = np.ndarray[Any, Any]

SUMS = ("count", "forwards", "backwards", "queries", "seconds", "variance")
"""What is added up over examples that are put together; of the other columns the first one's stands for all."""

STATUSES = ("ok", "invalid", "unstable", *UNFINISHED)


@dataclass(frozen=True)
class Tally:
    """Columns of the ledger, each [N], in order of example. `fooled` and `final` are False where they are not `known`
    or not `read`; `first_step` is -1 where no candidate fooled; `variance` is that of being right over the draws of a
    stochastic model, and NaN for a deterministic one. A row aggregates `count` examples; `max_backwards` is the
    largest number of backward passes among them. `signs`, of the clean images, are the bits of what the diagnosis found
    (`robench.ledger.signs`), elsewhere 0."""

    example: Array
    count: Array
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
    variance: Array
    max_backwards: Array
    signs: Array

    @classmethod
    def of(cls, rows: pa.Table) -> "Tally":
        columns = {name: rows[name] for name in rows.column_names}
        plain = ("example", "label", "clean_prediction", "forwards", "backwards", "queries", "seconds", "message")
        share_right = columns["share_right"].to_numpy()
        return cls(
            **{name: columns[name].to_numpy() for name in plain},
            count=np.ones(len(rows), dtype=np.int64),
            variance=share_right * (1 - share_right),
            max_backwards=columns["backwards"].to_numpy(),
            signs=np.zeros(len(rows), dtype=np.int64),
            fooled=columns["fooled"].fill_null(False).to_numpy(),
            known=columns["fooled"].is_valid().to_numpy(),
            final=columns["fooled_final"].fill_null(False).to_numpy(),
            read=columns["fooled_final"].is_valid().to_numpy(),
            first_step=columns["first_step"].fill_null(-1).to_numpy(),
            status=columns["status"].to_numpy(),
        )

    def __len__(self) -> int:
        return len(self.example)

    @property
    def n(self) -> int:
        """How many examples it stands for."""
        return self.total()

    def total(self, chosen: Array | slice = slice(None)) -> int:
        """How many examples the rows chosen by a mask [N] stand for."""
        return int(self.count[chosen].sum())

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
        skipped: Array = self.status == "skipped"
        return skipped


def tally(cells: Mapping[str, Cell], ids: range | None = None) -> dict[str, Tally]:
    """Of each cell, over the examples that all of them have, of `ids` where they are given; what a diagnosis found is
    with the clean images."""
    return shared(whole(cells, ids))


def whole(cells: Mapping[str, Cell], ids: range | None = None) -> dict[str, Tally]:
    """As `tally`, of each cell over all the examples that it has."""
    found = {name: Tally.of(cell.table(ids)) for name, cell in cells.items() if name != DIAGNOSIS}
    if DIAGNOSIS in cells:
        clean = found[CLEAN]
        bits = signs.bits_of(cells[DIAGNOSIS].found, clean.example, clean.correct)
        found[CLEAN] = replace(clean, signs=bits)
    return found


def shared(tallies: Mapping[str, Tally]) -> dict[str, Tally]:
    """The same over the examples that all of them have."""
    examples = reduce(_intersection, (each.example for each in tallies.values()))
    return {name: each.at(examples) for name, each in tallies.items()}


def condensed(cells: Mapping[str, Cell], ids: range) -> dict[str, Tally]:
    """As `tally` of `ids`, with a row for all examples that fared alike, so that its size does not depend on theirs."""
    found = {name: Tally.of(ROW.empty_table()) for name in cells if name != DIAGNOSIS}
    for window in windows(ids):
        more = tally(cells, ids=window)
        found = condensed_tallies({name: _concatenated(each, more[name]) for name, each in found.items()})
    return found


def _concatenated(*tallies: Tally) -> Tally:
    columns = {field.name: [getattr(each, field.name) for each in tallies] for field in fields(Tally)}
    return Tally(**{name: np.concatenate(parts) for name, parts in columns.items()})


def condensed_tallies(tallies: Mapping[str, Tally]) -> dict[str, Tally]:
    """Of tallies over the same examples, with a row for all that fared alike."""
    fates = np.stack([next(iter(tallies.values())).label, *map(_fate, tallies.values())], axis=1)
    _, first, group = np.unique(fates, axis=0, return_index=True, return_inverse=True)
    place = np.argsort(np.argsort(first))[group.reshape(-1)]  # groups in order of their first examples
    return {name: _gathered(each, np.sort(first), place) for name, each in tallies.items()}


def _fate(tally: Tally) -> Array:
    """A number [N] for what counts of a row beside its label."""
    status: Array = np.select([tally.status == each for each in STATUSES], range(len(STATUSES)), len(STATUSES))
    finite = tally.clean_prediction != -1
    for bit in (tally.fooled, tally.known, tally.final, tally.read, tally.correct, finite, np.isnan(tally.variance)):
        status = 2 * status + bit
    fate: Array = status * 2**signs.COUNT + tally.signs
    return fate


def _gathered(tally: Tally, first: Array, group: Array) -> Tally:
    """A row for each group [N], of which `first` [G] are the first rows."""
    columns = {field.name: getattr(tally, field.name)[first] for field in fields(Tally)}
    for name in SUMS:
        column = getattr(tally, name)
        columns[name] = np.bincount(group, column, minlength=len(first)).astype(np.result_type(column, np.int64))
    np.maximum.at(columns["max_backwards"], group, tally.max_backwards)
    return Tally(**columns)


def _intersection(a: Array, b: Array) -> Array:
    return a if np.array_equal(a, b) else np.intersect1d(a, b)
