"""Runs an evaluation: every attack of a battery on every example of a set, into the ledger."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from robench.evaluation import diagnosis, overdue, rows
from robench.evaluation.answers import told_apart
from robench.evaluation.evaluation import Evaluation
from robench.evaluation.executors import Executor, executor
from robench.evaluation.model_checks import answering
from robench.evaluation.shards import ALONE, Overdue, Scale, Unit, Watch
from robench.ledger.cell import Cell
from robench.ledger.provenance import run_manifest
from robench.ledger.schema import CLEAN, DIAGNOSIS
from robench.ledger.store import Ledger
from robench.ledger.summary import Summary, summarise
from robench.search.attack import Attack
from robench.search.fast.tuning import Tuning
from robench.search.prefix import longest, shorter
from robench.specs.choices import Precision
from robench.utils import signals
from robench.utils.containment import Stop
from robench.utils.errors import UserError
from robench.utils.files import make_folder, replacing
from robench.utils.memory import keep_memory
from robench.utils.threads import torch_threads

DEAR = 1000
"""Passes from which on attacks are run in the order that they were given: to count more of them takes long."""

GOES_ON = "the same command goes on from there"
"""What is said where a signal has stopped a run."""


class EvaluationProgress(Watch, Protocol):
    """Shows how an evaluation goes, and what it found."""

    def begin(self, attack: str, examples: int) -> None: ...
    def end(self) -> None: ...
    def show(self, summary: Summary) -> None: ...


class SilentEvaluation:
    """Ignores what it is told."""

    def begin(self, attack: str, examples: int) -> None: ...
    def active(self, examples: int, passes: int, done: float) -> None: ...
    def advance(self, examples: int, robust: int) -> None: ...
    def end(self) -> None: ...
    def show(self, summary: Summary) -> None: ...


def run(
    evaluation: Evaluation,
    results: Path | str,
    progress: EvaluationProgress | None = None,
    save_adversarial: Path | str | None = None,
    scale: Scale = ALONE,
) -> Summary:
    """Evaluates into the ledger of the results folder, and summarises. `save_adversarial` is a folder: an archive for
    each attack, ATTACK.npz, with x_adv [N, ...] in float32, the labels y [N] and ids [N], the rows in the data set."""
    if scale.part and (hidden := evaluation.subject.hidden):
        raise UserError(f"a part needs a model whose rows can be told to be of one, but {hidden[0]}; run the whole")
    if save_adversarial is not None:
        if scale.part:
            raise UserError(f"part {scale.part} has not all x_adv to save; save them in a run of the whole")
        _check_names(evaluation.attacks)
        make_folder(Path(save_adversarial))
    manifest = run_manifest(evaluation.device)
    keep = save_adversarial is not None
    ledger = Ledger(results)
    try:
        cells = evaluate(evaluation, ledger, manifest, progress, keep_images=keep, scale=scale)
    except KeyboardInterrupt as interrupt:
        kept = f"stopped; what was finished is kept in {ledger.path}, and {GOES_ON}"
        raise signals.Stopped(signals.number_of(interrupt), kept) from interrupt
    if save_adversarial is not None:
        _save_adversarial(evaluation, cells, Path(save_adversarial))
    return summarise(cells, evaluation.n, evaluation.mode, evaluation.left_out)


def evaluate(
    evaluation: Evaluation,
    ledger: Ledger,
    run: dict[str, Any],
    progress: EvaluationProgress | None = None,
    *,
    keep_images: bool = False,
    scale: Scale = ALONE,
) -> dict[str, Cell]:
    """Runs what the ledger lacks and gives the cells by name: clean, then the attacks.

    `run` describes this run; a cell that an earlier run began keeps that run's batch size and thread count, so that it
    ends as it would have without the interruption. `keep_images`: the cells keep their adversarial examples, and make
    again those they lack.
    """
    evaluation, answers = told_apart(evaluation, ledger)
    progress, ids = progress or SilentEvaluation(), scale.ids(evaluation.wanted, evaluation.batch_size)
    with executor(scale.executor, evaluation, scale.workers) as on:
        run = {**run, "batch_size": evaluation.batch_size, "threads": on.threads}
        clean = ledger.cell(evaluation.key(None), evaluation.about(None), {**run, "answers": answers})
        probed = evaluation.wanted[: -(-diagnosis.EXAMPLES // evaluation.batch_size) * evaluation.batch_size]
        with_probed = range(max(ids.stop, probed.stop)) if ids.start == 0 else ids
        if not _fill(Unit(CLEAN, with_probed, clean, clean), on, progress, scale):
            raise UserError(f"the clean images under {evaluation.subject.name}: {overdue.why(scale)}")
        cells, tunings = {CLEAN: clean}, Tunings(evaluation, on.threads)
        if evaluation.subject.gives == "gradients":
            about = {**evaluation.about(None), "attack": DIAGNOSIS, "protocol": evaluation.protocol}
            key = diagnosis.key(evaluation)
            cells[DIAGNOSIS] = cell = tunings.cell(ledger, key, about, run, evaluation.precision)
            if ids.start == 0:
                _diagnose(Unit(DIAGNOSIS, evaluation.wanted[: diagnosis.EXAMPLES], cell, clean), on, progress, scale)
        before: list[Cell] = []

        def cell_of(attack: Attack) -> Cell:
            precision = evaluation.precision_of(attack.access)
            return tunings.cell(ledger, evaluation.key(attack), evaluation.about(attack), run, precision)

        related = [] if keep_images else [attack for attack in evaluation.attacks if evaluation.can_be_cut(attack)]
        for attack in _in_order(evaluation):
            whole = longest(attack, related)
            for each in [attack] if whole is attack else [whole, attack]:
                own = cell_of(each)
                shorter_cells = {steps: cell_of(other) for steps, other in shorter(each, related).items()}
                prefixes = tuple((steps, cell) for steps, cell in shorter_cells.items() if _run_alike(own, cell))
                unit = Unit(each.name, ids, own, clean, tuple(before), keep_images, prefixes)
                if not _fill(unit, on, progress, scale):
                    overdue.note(unit, evaluation, each, scale)
            cells[attack.name] = cell = cell_of(attack)
            progress.show(summarise(cells, evaluation.n, evaluation.mode))
            if evaluation.mode == "worst-case":
                before.append(cell)
    return cells


def _run_alike(first: Cell, second: Cell) -> bool:
    return all(first.run[name] == second.run[name] for name in ("batch_size", "threads", "tuning"))


class Tunings:
    """How attacks make passes: tried out when the first cell that asks for it is opened, and kept with its rows."""

    def __init__(self, evaluation: Evaluation, threads: int) -> None:
        self._evaluation, self._threads = evaluation, threads
        self._found: dict[Precision, Tuning] = {}

    def cell(
        self, ledger: Ledger, key: dict[str, Any], about: dict[str, Any], run: dict[str, Any], precision: Precision
    ) -> Cell:
        """As the ledger's."""
        return ledger.find(key) or ledger.cell(key, about, {**run, "tuning": self._of(precision).to_json()})

    def _of(self, precision: Precision) -> Tuning:
        if precision not in self._found:
            keep_memory()
            with torch_threads(self._threads), answering(self._evaluation.subject.name, "passes tried out for speed"):
                seen = self._evaluation.judges(self._evaluation.device)[1]
                self._found[precision] = self._evaluation.tune(seen, precision)
        return self._found[precision]


def _fill(whole: Unit, on: Executor, progress: EvaluationProgress, scale: Scale) -> bool:
    """Runs what is lacking; whether it ended in time."""
    units, examples = [], 0
    for piece in whole.cut(scale.workers):
        run, skip = piece.lacking()
        if len(run) or len(skip):
            units.append(replace(piece, flush_seconds=0.0) if scale.timeout else piece)
            examples += len(run)
    if units:
        progress.begin(whole.attack, examples)
        try:
            with signals.deferred("batch"):
                on.run(units, progress, scale.seconds)
        except Overdue:
            return False
        finally:
            progress.end()
    if not scale.part:  # else the others, which may be running, would all do the same
        whole.cell.compact()
    return True


def _diagnose(unit: Unit, on: Executor, progress: EvaluationProgress, scale: Scale) -> None:
    """Makes the diagnosis where it is lacking or was made on fewer examples."""
    correct = unit.correct()
    if len(correct) and (unit.cell.found is None or unit.cell.found["probed"] < len(unit.ids)):
        progress.begin(DIAGNOSIS, len(correct))
        try:
            on.run([unit], progress, scale.seconds)
        except Overdue:
            unit.cell.record(diagnosis.failed(overdue.why(scale)).to_json())
        finally:
            progress.end()


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
    return sorted(evaluation.attacks, key=partial(_passes_up_to_dear, evaluation))


def _passes_up_to_dear(evaluation: Evaluation, attack: Attack) -> float:
    """The passes of an example, which are not counted beyond `DEAR`, nor where a library would be loaded for it."""
    if attack.declaration.one_at_a_time:
        return DEAR
    made = count()

    def before() -> None:
        if next(made) >= DEAR:
            raise Stop

    counted = evaluation.count_passes(attack, before=before)
    return min(counted.forwards + counted.backwards, DEAR)
