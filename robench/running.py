"""Runs an evaluation: every attack of a battery on every example of a set, into the ledger."""

import time
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import Any, Protocol
from zlib import crc32

import numpy as np
import pandas as pd
import pyarrow as pa
import torch

from robench import diagnosis, rows
from robench.atomic import make_folder, replacing
from robench.battery import Attack
from robench.classifier import Classifier
from robench.data import Split
from robench.draws import Draws
from robench.errors import UserError
from robench.evaluation import Evaluation
from robench.judge import Judge
from robench.ledger import CLEAN, DIAGNOSIS, Cell, Ledger
from robench.outcome import Outcome
from robench.provenance import run_manifest
from robench.randomness import reseed, undisturbed
from robench.resources import Resources
from robench.rows import Columns
from robench.search import Search
from robench.summary import Summary, summarise
from robench.tuning import Precision, Tuning


class Progress(Protocol):
    """Is told how a run goes: the standing at each step, the passes so far, how many stood, what was found."""

    def begin(self, attack: str, examples: int) -> None: ...
    def standing(self, examples: int, passes: int) -> None: ...
    def advance(self, examples: int, robust: int) -> None: ...
    def end(self) -> None: ...
    def show(self, summary: Summary) -> None: ...


class Silent:
    """Tells nobody."""

    def begin(self, attack: str, examples: int) -> None: ...
    def standing(self, examples: int, passes: int) -> None: ...
    def advance(self, examples: int, robust: int) -> None: ...
    def end(self) -> None: ...
    def show(self, summary: Summary) -> None: ...


def run(
    evaluation: Evaluation,
    results: Path | str,
    progress: Progress | None = None,
    save_adversarial: Path | str | None = None,
) -> Summary:
    """Evaluates into the ledger of the results folder, and summarises. `save_adversarial` is a folder: an archive for
    each attack, ATTACK.npz, with x_adv [N, ...] in float32, the labels y [N] and ids [N], the rows in the data set."""
    if save_adversarial is not None:
        _check_names(evaluation.attacks)
        make_folder(Path(save_adversarial))
    manifest = run_manifest(evaluation.device)
    cells = evaluate(evaluation, Ledger(results), manifest, progress, keep_images=save_adversarial is not None)
    if save_adversarial is not None:
        _save_adversarial(evaluation, cells, Path(save_adversarial))
    return summarise(cells, evaluation.n, evaluation.mode, evaluation.left_out)


def evaluate(
    evaluation: Evaluation,
    ledger: Ledger,
    run: dict[str, Any],
    progress: Progress | None = None,
    *,
    keep_images: bool = False,
) -> dict[str, Cell]:
    """Runs what the ledger lacks and gives the cells by name: clean, then the attacks.

    `run` describes this run; a cell that an earlier run began keeps that run's batch size and thread count, so that it
    ends as it would have without the interruption. `keep_images`: the cells keep their adversarial examples, and make
    again those they lack.
    """
    progress = progress or Silent()
    device = torch.device(evaluation.device)
    split = evaluation.split.to(device)
    judge, seen = evaluation.judges(device)
    resources = evaluation.resources(device)
    wanted = evaluation.wanted
    run = {**run, "batch_size": evaluation.batch_size, "threads": torch.get_num_threads()}

    clean = ledger.cell(evaluation.key(None), evaluation.about(None), run)
    _fill(clean, wanted, progress, CLEAN, CleanRows(judge, split))
    predicted = clean.rows().set_index("example")
    predictions, shares = predicted["clean_prediction"], predicted["share_right"]
    searchers = Searchers(evaluation, seen)

    cells = {CLEAN: clean}
    if evaluation.subject.gives == "gradients":
        cells[DIAGNOSIS] = _diagnosed(evaluation, ledger, run, split, searchers, predictions, progress)
    standing = list(wanted)
    for attack in _in_order(evaluation):
        precision = evaluation.precision_of(attack.access)
        cell = searchers.cell(ledger, evaluation.key(attack), evaluation.about(attack), run, precision)
        lent = replace(resources, memory={})
        rows_of = AttackRows(
            evaluation,
            attack,
            judge,
            seen,
            searchers.of(cell),
            split,
            predictions,
            shares,
            lent,
            progress,
            cell if keep_images else None,
        )
        spared = set(wanted) - set(standing)
        _fill(cell, wanted, progress, attack.name, rows_of, spared)
        cells[attack.name] = cell
        progress.show(summarise(cells, evaluation.n, evaluation.mode))
        if evaluation.mode == "worst-case":
            fooled = cell.rows().set_index("example")["fooled"].loc[standing]
            standing = fooled.index[~fooled.fillna(False)].tolist()
    return cells


def _diagnosed(
    evaluation: Evaluation,
    ledger: Ledger,
    run: dict[str, Any],
    split: Split,
    searchers: "Searchers",
    predictions: pd.Series,
    progress: Progress,
) -> Cell:
    """The cell of the diagnosis, made where it is lacking or was made on fewer examples."""
    about = {**evaluation.about(None), "attack": DIAGNOSIS, "protocol": evaluation.protocol}
    cell = searchers.cell(ledger, diagnosis.key(evaluation), about, run, evaluation.precision)
    probed = np.array(evaluation.wanted[: diagnosis.EXAMPLES])
    correct = probed[predictions.loc[probed.tolist()].to_numpy() == rows.array(split.labels[probed])]
    if len(correct) and (cell.found is None or cell.found["probed"] < len(probed)):
        progress.begin(DIAGNOSIS, len(correct))
        try:
            found = diagnosis.diagnose(
                evaluation,
                searchers.seen,
                searchers.of(cell),
                split.floats(correct),
                split.labels[correct],
                correct,
            )
            progress.advance(len(correct), sum(found.standing["eps"]))
        except torch.OutOfMemoryError:
            raise _out_of_memory(evaluation.batch_size) from None
        finally:
            progress.end()
        cell.record(found.to_json())
    return cell


@dataclass(frozen=True)
class Searchers:
    """What attacks make their passes by: tuned as it was when their cell was begun."""

    evaluation: Evaluation
    seen: Judge
    _made: dict[Tuning, Classifier] = field(default_factory=dict)
    _found: dict[Precision, Tuning] = field(default_factory=dict)

    def cell(
        self, ledger: Ledger, key: dict[str, Any], about: dict[str, Any], run: dict[str, Any], precision: Precision
    ) -> Cell:
        """As the ledger's; a new one freezes the tuning found here."""
        return ledger.find(key) or ledger.cell(key, about, {**run, "tuning": self._tuning(precision).to_json()})

    def of(self, cell: Cell) -> Classifier:
        tuning = Tuning.of_json(cell.run["tuning"])
        if tuning not in self._made:
            self._made[tuning] = self.evaluation.searcher(self.seen, tuning)
        return self._made[tuning]

    def _tuning(self, precision: Precision) -> Tuning:
        if precision not in self._found:
            self._found[precision] = self.evaluation.tune(self.seen, precision)
        return self._found[precision]


def _check_names(attacks: Sequence[Attack]) -> None:
    files: dict[str, str] = {}
    for attack in attacks:
        if other := files.get(attack.file_name):
            raise UserError(
                f"{other} and {attack.name} would both be saved as {attack.file_name}.npz; run one at a time"
            )
        files[attack.file_name] = attack.name


def _save_adversarial(evaluation: Evaluation, cells: dict[str, Cell], folder: Path) -> None:
    for attack in evaluation.attacks:
        kept = cells[attack.name].images()
        ids = np.array([example for example in evaluation.wanted if example in kept], dtype=np.int64)
        if len(ids):
            x_adv = np.stack([kept[example] for example in ids.tolist()])
            with replacing(folder / f"{attack.file_name}.npz") as temporary, temporary.open("wb") as file:
                np.savez(file, x_adv=x_adv, y=rows.array(evaluation.split.labels[ids]), ids=ids)


def _in_order(evaluation: Evaluation) -> list[Attack]:
    """As they were given or, where each leaves its survivors to the next, the cheap ones first."""
    if evaluation.mode == "columns":
        return list(evaluation.attacks)
    return sorted(evaluation.attacks, key=lambda attack: sum(evaluation.passes(attack)))


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
    if rows_of.keeper:
        finished &= cell.images().keys()
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
        raise _out_of_memory(size) from None
    finally:
        torch.set_num_threads(threads)
        progress.end()
    cell.compact()


def _out_of_memory(batch_size: int) -> UserError:
    return UserError(f"memory ran out on batches of {batch_size}; ask for fewer with --batch-size")


class RowsOf(Protocol):
    """Makes the rows of some examples, by their ids, and of those that are spared."""

    @property
    def keeper(self) -> Cell | None: ...
    def __call__(self, ids: np.ndarray) -> Columns: ...
    def skipped(self, ids: np.ndarray) -> Columns: ...


@dataclass(frozen=True)
class CleanRows:
    """Predictions on the images as they are."""

    judge: Judge
    split: Split
    keeper: Cell | None = None

    def __call__(self, ids: np.ndarray) -> Columns:
        x, y = self.split.floats(ids), self.split.labels[ids]
        verdicts = self.judge(x, x, y)
        columns = rows.untouched(ids, rows.array(y), rows.array(verdicts.prediction))
        if self.judge.votes > 1:
            columns["share_right"] = rows.array(verdicts.share_right).astype(object)
        return columns | {"margin": rows.array(verdicts.margin), "forwards": np.ones(len(ids), dtype=np.int64)}

    def skipped(self, ids: np.ndarray) -> Columns:
        """None ever is."""
        return rows.skipped(ids, ids, ids)


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
    progress: Progress
    keeper: Cell | None = None
    """where the adversarial examples are kept, if they are"""

    def skipped(self, ids: np.ndarray) -> Columns:
        return rows.skipped(ids, rows.array(self.split.labels[ids]), self._clean(ids), self.evaluation.seed)

    def _clean(self, ids: np.ndarray) -> np.ndarray:
        clean: np.ndarray = self.predictions.loc[ids.tolist()].to_numpy(dtype=np.int64)
        return clean

    def __call__(self, ids: np.ndarray) -> Columns:
        y = self.split.labels[ids]
        columns = rows.untouched(ids, rows.array(y), self._clean(ids), self.evaluation.seed)
        columns["share_right"] = self.shares.loc[ids.tolist()].to_numpy(dtype=object)
        final = self.evaluation.readings_of(self.attack) == "final"
        if final:
            columns["fooled_final"] = columns["fooled"].copy()
        correct = np.flatnonzero(columns["fooled"] == False)  # noqa: E712
        wrong = np.setdiff1d(np.arange(len(ids)), correct)
        if self.keeper and len(wrong):
            self.keeper.keep_images(ids[wrong], rows.array(self.split.floats(ids[wrong])))
        if not len(correct):
            return columns
        x, y = self.split.floats(ids[correct]), y[correct]
        draws = Draws(self.evaluation.seed, ids[correct], x.device)
        search = Search(
            self.searcher,
            self.seen,
            self.evaluation.threat,
            x,
            y,
            draws,
            loaded=self.seen.classifier,
            access=self.attack.access,
            drop=not final,
            batch_size=self.evaluation.batch_size,
            resources=self.resources,
            watch=lambda standing: self.progress.standing(standing, self._passes),
        )
        try:
            outcome = self._run(search, ids)
        except (UserError, torch.OutOfMemoryError):
            raise
        except Exception as error:  # whatever an attack does wrong must not end the battery, nor count as robust
            rows.erred(columns, correct, f"{type(error).__name__}: {error}")
        else:
            verdicts = outcome.verdicts
            if self.evaluation.protocol == "static":  # what fooled the attacker's model may not fool what is deployed
                verdicts = self.judge(outcome.kept, x, y)
                outcome.fooled = verdicts.fooled
                outcome.last_fooled = self.judge(outcome.last, x, y).fooled
            if self.keeper:
                whole = ~np.isin(np.arange(len(correct)), list(outcome.failures)) | rows.array(outcome.fooled)
                self.keeper.keep_images(ids[correct][whole], rows.array(outcome.kept)[whole])
            if final:
                columns["fooled_final"][correct] = rows.array(outcome.last_fooled)
            rows.attacked(columns, correct, outcome, verdicts)
            if not self.evaluation.behaviour.stochastic:
                columns["share_right"][correct] = None
        return columns

    @property
    def _passes(self) -> int:
        return sum(classifier.passes for classifier in {self.searcher, self.seen.classifier})

    def _run(self, search: Search, ids: np.ndarray) -> Outcome:
        if not self.evaluation.meets_chance(self.attack):
            return search.run(self.attack, self.attack.restarts)
        with undisturbed(search.x.device):
            reseed(crc32(f"{self.attack.name} {self.evaluation.seed} {ids[0]}".encode()))
            return search.run(self.attack, self.attack.restarts)
