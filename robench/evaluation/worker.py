"""Fills the units of an evaluation in one process: rows of clean predictions, of attacks, and the diagnosis."""

import time
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Protocol
from zlib import crc32

import numpy as np
import pandas as pd
import pyarrow as pa
import torch
from torch import Tensor

from robench.data.datasets import Split
from robench.evaluation import diagnosis, rows
from robench.evaluation.evaluation import Evaluation
from robench.evaluation.integrity import Integrity
from robench.evaluation.model_checks import answering
from robench.evaluation.rows import Columns
from robench.evaluation.shards import Unit, Watch
from robench.ledger.cell import Cell
from robench.ledger.schema import CLEAN, DIAGNOSIS
from robench.search.attack import Attack
from robench.search.classifier import Classifier
from robench.search.fast.tuning import Tuning
from robench.search.judge import Judge, Verdicts
from robench.search.outcome import Outcome
from robench.search.resources import Resources
from robench.search.rng import Draws
from robench.search.search import Search
from robench.utils.errors import UserError
from robench.utils.global_rng import reseed, undisturbed
from robench.utils.memory import keep_memory, ran_out
from robench.utils.threads import torch_threads

CHECKED = 8
"""Images whose answers must stay the same, whatever attacks do."""


class Prepared:
    """An evaluation made ready in this process: the model, the images and the resources of attacks, on the device."""

    def __init__(self, evaluation: Evaluation) -> None:
        keep_memory()
        device = torch.device(evaluation.device)
        self._evaluation, self._split = evaluation, evaluation.split.to(device)
        self._attacks = {attack.name: attack for attack in evaluation.attacks}
        self._load()

    def _load(self) -> None:
        """Makes copies of the model, and of all that attacks are given, as they were loaded."""
        device = torch.device(self._evaluation.device)
        self._judge, self._seen = self._evaluation.judges(device)
        self._resources = self._evaluation.resources(device)
        self._resources_of = ("", self._resources)
        self._searchers: dict[Tuning, Classifier] = {}
        copies = {self._judge.classifier, self._seen.classifier}
        repeats = not self._evaluation.behaviour.stochastic
        with answering(self._evaluation.subject.name, "the first images"):
            self._integrity = Integrity(copies, self._split.floats(slice(CHECKED)), repeats=repeats)

    def do(self, unit: Unit, watch: Watch) -> None:
        """Runs what a unit lacks; where it is interrupted, what it has finished is on disk."""
        try:
            with torch_threads(int(unit.cell.run["threads"])):
                if unit.attack == DIAGNOSIS:
                    self._diagnose(unit, watch)
                else:
                    self._fill(unit, watch)
        except Exception as error:
            if ran_out(error):
                raise _out_of_memory() from None
            raise

    def _searcher(self, cell: Cell) -> Classifier:
        """What an attack makes its passes by: tuned as it was when its cell was opened."""
        tuning = Tuning.of_json(cell.run["tuning"])
        if tuning not in self._searchers:
            self._searchers[tuning] = self._evaluation.searcher(self._seen, tuning)
            self._integrity.add(self._searchers[tuning])
        return self._searchers[tuning]

    def _diagnose(self, unit: Unit, watch: Watch) -> None:
        ids = unit.correct()
        x, y = self._split.floats(ids), self._split.labels[ids]
        found = diagnosis.diagnose(self._evaluation, self._judge, self._seen, self._searcher(unit.cell), x, y, ids)
        unit.cell.record(found.to_json())
        watch.advance(len(ids), sum(found.standing["eps"]))

    def _fill(self, unit: Unit, watch: Watch) -> None:
        rows_of = self._rows_of(unit, watch)
        lacking = {steps: replace(unit, cell=cell).lacking()[0] for steps, cell in unit.prefixes}
        with ExitStack() as stack:
            write = stack.enter_context(unit.cell.writer(unit.flush_seconds))
            to_prefix = {steps: stack.enter_context(cell.writer(unit.flush_seconds)) for steps, cell in unit.prefixes}
            for run, skip in unit.batches():
                started = time.perf_counter()
                self._integrity.begin()
                columns, prefixes = rows_of(run)
                if unit.attack != CLEAN and (broken := self._integrity.broken()):
                    columns, prefixes = rows_of.failed(run, broken), {}
                    self._load()  # so that what comes next starts from a clean model
                    rows_of = self._rows_of(unit, watch)
                columns["seconds"] = np.full(len(run), (time.perf_counter() - started) / max(len(run), 1))
                write(pa.concat_tables([rows.table(columns), rows.table(rows_of.skipped(skip))]))
                for steps, of_fewer in prefixes.items():
                    to_prefix[steps](rows.prefix(of_fewer, columns, np.isin(run, lacking[steps])))
                watch.advance(len(run), int((columns["fooled"] == False).sum()))  # noqa: E712

    def _rows_of(self, unit: Unit, watch: Watch) -> "RowsOf":
        if unit.attack == CLEAN:
            return CleanRows(self._evaluation.subject.name, self._judge, self._split)
        if unit.attack != self._resources_of[0]:
            self._resources_of = (unit.attack, replace(self._resources, memory={}))
        clean = unit.clean.rows(unit.ids).set_index("example")
        return AttackRows(
            self._evaluation,
            self._attacks[unit.attack],
            self._judge,
            self._seen,
            self._searcher(unit.cell),
            self._split,
            clean["clean_prediction"],
            clean["share_right"],
            self._resources_of[1],
            watch,
            unit.cell if unit.keep_images else None,
            tuple(steps for steps, _ in unit.prefixes),
        )


def _out_of_memory() -> UserError:
    return UserError("memory ran out on the fewest images that a pass can take; this model needs a larger machine")


def _described(error: Exception, attack: Attack, examples: int) -> str:
    """An attack's error, in one line for its rows."""
    if not ran_out(error):
        return f"{type(error).__name__}: {error}"
    advice = "; a smaller --batch-size asks for less" if attack.batch_dependent and examples > 1 else ""
    return f"memory ran out ({(str(error).splitlines() or [type(error).__name__])[0]}){advice}"


class RowsOf(Protocol):
    """Makes the rows of some examples, by their ids, and of those that are skipped."""

    def __call__(self, ids: np.ndarray) -> tuple[Columns, dict[int, Columns]]:
        """And, of an attack, the rows of the prefixes of its runs that are wanted, by their steps."""

    def skipped(self, ids: np.ndarray) -> Columns: ...
    def failed(self, ids: np.ndarray, why: str) -> Columns:
        """Of an attack that cannot be believed: errors, where there was something to attack."""


@dataclass(frozen=True)
class CleanRows:
    """Predictions on the images as they are."""

    name: str
    """of the model"""
    judge: Judge
    split: Split

    def __call__(self, ids: np.ndarray) -> tuple[Columns, dict[int, Columns]]:
        x, y = self.split.floats(ids), self.split.labels[ids]
        with answering(self.name, "the clean images"):
            verdicts = self.judge(x, x, y)
        columns = rows.untouched(ids, rows.array(y), rows.array(verdicts.prediction))
        if self.judge.votes > 1:
            columns["share_right"] = rows.array(verdicts.share_right).astype(object)
        found = {"margin": rows.array(verdicts.margin), "forwards": np.ones(len(ids), dtype=np.int64)}
        return columns | found, {}

    def skipped(self, ids: np.ndarray) -> Columns:
        """None ever is."""
        return rows.skipped(ids, ids, ids)

    def failed(self, ids: np.ndarray, why: str) -> Columns:
        """None ever is."""
        return self(ids)[0]


@dataclass(frozen=True)
class AttackRows:
    """One attack on the examples that are classified correctly when clean; the others count as fooled."""

    evaluation: Evaluation
    attack: Attack
    judge: Judge
    seen: Judge
    """of what the attacker sees"""
    searcher: Classifier
    """the same, tuned"""
    split: Split
    predictions: pd.Series
    shares: pd.Series
    """of the draws of a stochastic model that are right when clean"""
    resources: Resources
    progress: Watch
    keeper: Cell | None = None
    """where the adversarial examples are kept, if they are"""
    prefixes: tuple[int, ...] = ()
    """of its runs, by their steps"""

    def skipped(self, ids: np.ndarray) -> Columns:
        return rows.skipped(ids, rows.array(self.split.labels[ids]), self._clean(ids), self.evaluation.seed)

    def failed(self, ids: np.ndarray, why: str) -> Columns:
        columns = self._untouched(ids)
        rows.erred(columns, np.flatnonzero(columns["fooled"] == False), why)  # noqa: E712
        return columns

    def _clean(self, ids: np.ndarray) -> np.ndarray:
        clean: np.ndarray = self.predictions.loc[ids.tolist()].to_numpy(dtype=np.int64)
        return clean

    def __call__(self, ids: np.ndarray) -> tuple[Columns, dict[int, Columns]]:
        columns = self._untouched(ids)
        correct = np.flatnonzero(columns["fooled"] == False)  # noqa: E712
        wrong = np.setdiff1d(np.arange(len(ids)), correct)
        if self.keeper and len(wrong):
            self.keeper.keep_images(ids[wrong], rows.array(self.split.floats(ids[wrong])))
        if not len(correct):
            return columns, dict.fromkeys(self.prefixes, columns)
        x, y = self.split.floats(ids[correct]), self.split.labels[ids[correct]]
        search = self._search(x, y, ids[correct])
        try:
            outcome = self._run(search, ids)
            prefixes = {steps: self._untouched(ids) for steps in self.prefixes}
            for steps, shorter in prefixes.items():
                self._enter(shorter, correct, search.prefix_outcomes[steps], x, y)
            self._enter(columns, correct, outcome, x, y)
        except UserError:
            raise
        except Exception as error:  # whatever an attack does wrong must not end the battery, nor count as robust
            return self.failed(ids, _described(error, self.attack, len(correct))), {}
        if self.keeper:
            whole = ~np.isin(np.arange(len(correct)), list(outcome.failures)) | rows.array(outcome.fooled)
            self.keeper.keep_images(ids[correct][whole], rows.array(outcome.kept)[whole])
        return columns, prefixes

    def _untouched(self, ids: np.ndarray) -> Columns:
        labels, shares = rows.array(self.split.labels[ids]), self.shares.loc[ids.tolist()].to_numpy(dtype=object)
        return rows.begun(ids, labels, self._clean(ids), shares, self.evaluation.seed, final=self._final)

    @property
    def _final(self) -> bool:
        return self.evaluation.readings_of(self.attack) == "final"

    def _search(self, x: Tensor, y: Tensor, ids: np.ndarray) -> Search:
        both = {self.searcher, self.seen.classifier}
        return Search(
            self.searcher,
            self.seen,
            self.evaluation.threat,
            x,
            y,
            Draws(self.evaluation.seed, ids, x.device),
            loaded=self.seen.classifier,
            access=self.attack.access,
            drop=not self._final,
            batch_size=self.evaluation.batch_size,
            resources=self.resources,
            watch=lambda active, share: self.progress.active(
                active, sum(each.passes for each in both), len(ids) - active * (1 - share)
            ),
            prefixes=self.prefixes,
        )

    def _enter(self, columns: Columns, correct: np.ndarray, outcome: Outcome, x: Tensor, y: Tensor) -> None:
        """Fills in what was found on the examples at the positions `correct`."""
        verdicts = outcome.verdicts
        if self.evaluation.protocol == "static":  # what fooled the attacker's model may not fool what is deployed
            verdicts = self.judge(outcome.kept, x, y)
            outcome.fooled = verdicts.fooled
            outcome.last_fooled = self.judge(outcome.last, x, y).fooled
        self._confirm(outcome, verdicts, x, y)
        if self._final:
            columns["fooled_final"][correct] = rows.array(outcome.last_fooled)
        rows.attacked(columns, correct, outcome, verdicts)
        if not self.evaluation.behaviour.stochastic:
            columns["share_right"][correct] = None

    def _confirm(self, outcome: Outcome, verdicts: Verdicts, x: Tensor, y: Tensor) -> None:
        """Judges what was found again, on the model loaded anew: one that changes as it is asked was not fooled."""
        behaviour = self.evaluation.behaviour
        found = (outcome.fooled & ~verdicts.unstable).nonzero().squeeze(1)
        if not len(found) or behaviour.unseeded or behaviour.mixes:  # whose verdicts no second look repeats
            return
        anew = self.evaluation.judges(x.device)[0]
        for row in found[~anew(outcome.kept[found], x[found], y[found]).fooled].tolist():
            outcome.fooled[row] = outcome.last_fooled[row] = False
            outcome.failures[row] = (
                "the model changes as it is asked: what fooled it does not fool it where it is loaded anew"
            )

    def _run(self, search: Search, ids: np.ndarray) -> Outcome:
        if not self.evaluation.uses_global_rng(self.attack):
            return search.run(self.attack, self.attack.restarts)
        with undisturbed(search.x.device):
            reseed(crc32(f"{self.attack.name} {self.evaluation.seed} {ids[0]}".encode()))
            return search.run(self.attack, self.attack.restarts)
