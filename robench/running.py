"""Runs an evaluation: every attack of a battery on every example of a set, into the ledger."""

import time
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
import pyarrow as pa
import torch

from robench import rows
from robench.battery import Attack
from robench.classifier import Classifier
from robench.data import Split
from robench.draws import Draws
from robench.errors import UserError
from robench.evaluation import Evaluation
from robench.judge import Judge
from robench.ledger import CLEAN, Cell, Ledger
from robench.provenance import run_manifest
from robench.resources import Resources
from robench.rows import Columns
from robench.search import Search
from robench.summary import Summary, summarise


class Progress(Protocol):
    """Is told how a run goes: how many of a batch stand at each step, the passes so far, and how many stood."""

    def begin(self, attack: str, examples: int) -> None: ...
    def standing(self, examples: int, passes: int) -> None: ...
    def advance(self, examples: int, robust: int) -> None: ...
    def end(self) -> None: ...


class Silent:
    """Tells nobody."""

    def begin(self, attack: str, examples: int) -> None: ...
    def standing(self, examples: int, passes: int) -> None: ...
    def advance(self, examples: int, robust: int) -> None: ...
    def end(self) -> None: ...


def run(evaluation: Evaluation, results: Path | str, progress: Progress | None = None) -> Summary:
    """Evaluates into the ledger of the results folder, and summarises."""
    cells = evaluate(evaluation, Ledger(results), run_manifest(evaluation.device), progress)
    return summarise(cells, evaluation.n, evaluation.mode, evaluation.left_out)


def evaluate(
    evaluation: Evaluation, ledger: Ledger, run: dict[str, Any], progress: Progress | None = None
) -> dict[str, Cell]:
    """Runs what the ledger lacks and gives the cells by name: clean, then the attacks.

    `run` describes this run; a cell that an earlier run began keeps that run's batch size and thread count, so that it
    ends as it would have without the interruption.
    """
    progress = progress or Silent()
    classifier = Classifier(evaluation.subject.model, evaluation.device)
    split = evaluation.split.to(classifier.device)
    judge = Judge(classifier, evaluation.threat)
    wanted = evaluation.wanted
    run = {**run, "batch_size": evaluation.batch_size, "threads": torch.get_num_threads()}

    check_model(classifier, split, evaluation.subject.name)
    clean = ledger.cell(evaluation.key(None), evaluation.about(None), run)
    _fill(clean, wanted, progress, CLEAN, CleanRows(judge, split))
    predictions = clean.rows().set_index("example")["clean_prediction"]

    resources = evaluation.resources(classifier.device)
    for source, subject in zip(resources.sources.models if resources.sources else (), evaluation.sources, strict=True):
        check_model(source, split, subject.name)
    cells = {CLEAN: clean}
    standing = list(wanted)
    for attack in _in_order(evaluation):
        cell = ledger.cell(evaluation.key(attack), evaluation.about(attack), run)
        lent = replace(resources, memory={})
        rows_of = AttackRows(evaluation, attack, classifier, judge, split, predictions, lent, progress)
        spared = set(wanted) - set(standing)
        _fill(cell, wanted, progress, attack.name, rows_of, spared)
        cells[attack.name] = cell
        if evaluation.mode == "worst-case":
            fooled = cell.rows().set_index("example")["fooled"].loc[standing]
            standing = fooled.index[~fooled.fillna(False)].tolist()
    return cells


def _in_order(evaluation: Evaluation) -> list[Attack]:
    """As they were given or, where each leaves its survivors to the next, the cheap ones first."""
    if evaluation.mode == "columns":
        return list(evaluation.attacks)
    return sorted(evaluation.attacks, key=lambda attack: sum(evaluation.passes(attack)))


def check_model(classifier: Classifier, split: Split, name: str) -> None:
    """Refuses a model that does not give logits for these images, or has fewer classes than their labels."""
    try:
        with torch.no_grad():
            split.check_labels(classifier.logits(split.floats(slice(1))).shape[1])
    except UserError:
        raise
    except Exception as error:  # whatever the user's model does
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"model {name} cannot take images of shape {tuple(split.shape)}: {reason}") from None


def _fill(
    cell: Cell,
    wanted: range,
    progress: Progress,
    name: str,
    rows_of: "RowsOf",
    spared: AbstractSet[int] = frozenset(),
) -> None:
    """Runs the examples that a cell lacks, in blocks of ids that do not depend on which of them are lacking.

    Those `spared`, which an earlier attack has broken, are noted as skipped beside the others of their block.
    """
    written, finished = set(cell.rows()["example"]), cell.present()
    missing = [example for example in wanted if example not in (written if example in spared else finished)]
    if not missing:
        return
    size = int(cell.run["batch_size"])
    threads = torch.get_num_threads()
    torch.set_num_threads(int(cell.run["threads"]))
    progress.begin(name, len(set(missing) - spared))
    try:
        with cell.writer() as write:
            for _, block in groupby(missing, lambda example: example // size):
                ids = list(block)
                run = np.array([example for example in ids if example not in spared], dtype=np.int64)
                skip = np.array([example for example in ids if example in spared], dtype=np.int64)
                started = time.perf_counter()
                columns = rows_of(run)
                columns["seconds"] = np.full(len(run), (time.perf_counter() - started) / max(len(run), 1))
                write(pa.concat_tables([rows.table(columns), rows.table(rows_of.skipped(skip))]))
                progress.advance(len(run), int((columns["fooled"] == False).sum()))  # noqa: E712
    except torch.OutOfMemoryError:
        raise UserError(f"memory ran out on batches of {size}; ask for fewer with --batch-size") from None
    finally:
        torch.set_num_threads(threads)
        progress.end()
    cell.compact()


class RowsOf(Protocol):
    """Makes the rows of some examples, by their ids, and of those that are spared."""

    def __call__(self, ids: np.ndarray) -> Columns: ...
    def skipped(self, ids: np.ndarray) -> Columns: ...


@dataclass(frozen=True)
class CleanRows:
    """Predictions on the images as they are."""

    judge: Judge
    split: Split

    def __call__(self, ids: np.ndarray) -> Columns:
        x, y = self.split.floats(ids), self.split.labels[ids]
        verdicts = self.judge(x, x, y)
        columns = rows.untouched(ids, rows.array(y), rows.array(verdicts.prediction))
        return columns | {"margin": rows.array(verdicts.margin), "forwards": np.ones(len(ids), dtype=np.int64)}

    def skipped(self, ids: np.ndarray) -> Columns:
        """None ever is."""
        return rows.skipped(ids, ids, ids)


@dataclass(frozen=True)
class AttackRows:
    """One attack on the examples that are classified correctly when clean; the others count as fooled."""

    evaluation: Evaluation
    attack: Attack
    classifier: Classifier
    judge: Judge
    split: Split
    predictions: pd.Series
    resources: Resources
    progress: Progress

    def skipped(self, ids: np.ndarray) -> Columns:
        return rows.skipped(ids, rows.array(self.split.labels[ids]), self._clean(ids), self.evaluation.seed)

    def _clean(self, ids: np.ndarray) -> np.ndarray:
        clean: np.ndarray = self.predictions.loc[ids.tolist()].to_numpy(dtype=np.int64)
        return clean

    def __call__(self, ids: np.ndarray) -> Columns:
        y = self.split.labels[ids]
        columns = rows.untouched(ids, rows.array(y), self._clean(ids), self.evaluation.seed)
        final = self.evaluation.readings_of(self.attack) == "final"
        if final:
            columns["fooled_final"] = columns["fooled"].copy()
        correct = np.flatnonzero(columns["fooled"] == False)  # noqa: E712
        if not len(correct):
            return columns
        x, y = self.split.floats(ids[correct]), y[correct]
        draws = Draws(self.evaluation.seed, ids[correct], x.device)
        search = Search(
            self.classifier,
            self.judge,
            self.evaluation.threat,
            x,
            y,
            draws,
            access=self.attack.access,
            drop=not final,
            batch_size=self.evaluation.batch_size,
            resources=self.resources,
            watch=lambda standing: self.progress.standing(standing, self.classifier.passes),
        )
        try:
            outcome = search.run(self.attack, self.attack.restarts)
        except (UserError, torch.OutOfMemoryError):
            raise
        except Exception as error:  # whatever an attack does wrong must not end the battery, nor count as robust
            rows.erred(columns, correct, f"{type(error).__name__}: {error}")
        else:
            if final:
                columns["fooled_final"][correct] = rows.array(outcome.last_fooled)
            rows.attacked(columns, correct, outcome, self.judge(outcome.kept, x, y))
        return columns
