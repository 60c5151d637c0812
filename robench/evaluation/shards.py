"""How an evaluation is cut up: into units that any process can run in any order, and into parts for a batch system."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import inf
from typing import Protocol, Self

import numpy as np

from robench.ledger.cell import Cell
from robench.ledger.schema import finished
from robench.utils.deadline import Duration
from robench.utils.errors import UserError

LARGEST = 8192
"""Examples of a unit, so that what a process holds does not grow with the set."""

SHARES = 8
"""Units for each worker, where there are so many batches, so that all of them have work to the end."""


CROWD = 1024
"""Workers that one evaluation may have."""


class Watch(Protocol):
    """Follows what runs: at each step the active examples, the passes so far and what is `done` of the batch, in
    examples, of which an active one counts by the share of its steps; then the robust ones of a batch."""

    def active(self, examples: int, passes: int, done: float) -> None: ...
    def advance(self, examples: int, robust: int) -> None: ...


@dataclass(frozen=True)
class Unit:
    """An attack, or what else fills a cell, on some examples. What has been done already it learns from the ledger, so
    it may be run again at any time; it is done when its rows are on disk."""

    attack: str
    ids: range
    cell: Cell
    clean: Cell
    before: Sequence[Cell] = ()
    """of earlier attacks; the examples that they broke are skipped"""
    keep_images: bool = False
    """the adversarial examples as well"""
    prefixes: Sequence[tuple[int, Cell]] = ()
    """of its runs: after so many steps they are runs of another attack, whose cell is filled too"""
    flush_seconds: float | None = None
    """what is finished is on disk after so long; by default as the cell has it"""

    @property
    def batch_size(self) -> int:
        return int(self.cell.run["batch_size"])

    def lacking(self) -> tuple[np.ndarray, np.ndarray]:
        """The examples to attack, and those broken before that are yet to be noted as skipped."""
        ids, table = np.array(self.ids), self.cell.table(self.ids)
        written = table["example"].to_numpy()
        done = written[finished(table)]
        if self.keep_images:
            done = np.intersect1d(done, self.cell.pictured())
        skipped = np.zeros(len(ids), dtype=bool)
        for cell in self.before:
            table = cell.table(self.ids)
            skipped |= np.isin(ids, table["example"].to_numpy()[table["fooled"].fill_null(False).to_numpy()])
        return ids[~skipped & ~np.isin(ids, done)], ids[skipped & ~np.isin(ids, written)]

    def correct(self) -> np.ndarray:
        """The examples [n] that are classified correctly when clean."""
        clean = self.clean.table(self.ids)
        right = clean["clean_prediction"].to_numpy() == clean["label"].to_numpy()
        ids: np.ndarray = clean["example"].to_numpy()[right]
        return ids

    def batches(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """What is lacking, in blocks of examples that do not depend on which of them are."""
        run, skip = self.lacking()
        for block in np.unique(np.concatenate([run, skip]) // self.batch_size):
            yield run[run // self.batch_size == block], skip[skip // self.batch_size == block]

    def cut(self, workers: int) -> list[Self]:
        """It in units of whole batches, many enough for the workers."""
        batches = -(-len(self.ids) // self.batch_size)
        fair = batches // (SHARES * workers) if workers > 1 else batches
        size = max(min(fair, LARGEST // self.batch_size), 1) * self.batch_size
        first = self.ids.start - self.ids.start % size
        starts = range(first, self.ids.stop, size)
        pieces = (range(max(start, self.ids.start), min(start + size, self.ids.stop)) for start in starts)
        return [replace(self, ids=piece) for piece in pieces]


class Overdue(Exception):  # noqa: N818
    """Units have not ended in time."""


def lost(unit: Unit, times: int) -> UserError:
    """The error for a unit that ended every process that ran it."""
    return UserError(
        f"{times} workers died one after the other on examples {unit.ids.start} to {unit.ids.stop - 1} under "
        f"{unit.attack}; where memory is short, ask for fewer --workers or a smaller --batch-size"
    )


@dataclass(frozen=True)
class Part:
    """The `i`-th of `k` shares of an evaluation, counted from 1."""

    i: int
    k: int

    @classmethod
    def parse(cls, written: str) -> Self:
        i, _, k = written.partition("/")
        if not (i.isdecimal() and k.isdecimal() and 1 <= int(i) <= int(k)):
            raise UserError(f"expected a part as i/k with i from 1 to k, such as 2/4, got {written!r}")
        return cls(int(i), int(k))

    def __str__(self) -> str:
        return f"{self.i}/{self.k}"

    def of(self, ids: range, batch_size: int) -> range:
        """Its examples, whole batches of `ids`."""
        batches = -(-len(ids) // batch_size)
        if self.k > batches:
            raise UserError(
                f"expected at most {batches} parts, one for each batch of {batch_size} examples, got {self.k}; "
                "a smaller --batch-size allows more"
            )
        edges = [batches * share // self.k * batch_size for share in (self.i - 1, self.i)]
        return ids[edges[0] : edges[1]]


@dataclass(frozen=True)
class Scale:
    """How an evaluation is spread: over the workers of an executor, and which part of it is run at all."""

    workers: int = 1
    executor: str = "serial"
    """a module of robench.evaluation.executors"""
    part: Part | None = None
    timeout: Duration | None = None
    """of an attack, from its first batch on"""

    @classmethod
    def of(
        cls,
        workers: int = 1,
        executor: str | None = None,
        part: str | None = None,
        timeout: str | float | None = None,
    ) -> Self:
        """From the words of a command; several workers are processes unless an executor is named, and so is one that
        may have to be killed."""
        if workers < 1:
            raise UserError(f"expected at least 1 worker, got {workers}")
        if workers > CROWD:
            raise UserError(f"expected at most {CROWD} workers, got {workers}")
        kind = executor or ("processes" if workers > 1 or timeout is not None else "serial")
        if timeout is not None and kind != "processes":
            raise UserError(f"a timeout kills the process of an attack, so it needs the executor processes, got {kind}")
        of_attack = Duration.of(timeout) if timeout is not None else None
        return cls(workers, kind, Part.parse(part) if part is not None else None, of_attack)

    @property
    def seconds(self) -> float:
        """Of an attack."""
        return self.timeout.seconds if self.timeout else inf

    def ids(self, wanted: range, batch_size: int) -> range:
        """The examples to run of those that are wanted."""
        return self.part.of(wanted, batch_size) if self.part else wanted


ALONE = Scale()
"""Everything, in this process."""
