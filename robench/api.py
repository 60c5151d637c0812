"""robench from Python: one function for each command, with the same words.

What cannot be done as asked raises `robench.utils.errors.UserError` with one sentence: what was expected, what was
given. Lengths (`eps`) are in units of [0, 1] and may be written as "8/255". None is what the checkpoint says, else the
usual for the data set.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import nn

from robench.benchmarking.queue import Report
from robench.benchmarking.queue import run as run_queue
from robench.benchmarking.run import Cuts, Reporter
from robench.benchmarking.run import run as run_benchmark
from robench.benchmarking.workspace import Workspace
from robench.evaluation.callable_attack import CallableAttack
from robench.evaluation.plan import (
    Evaluable,
    EvaluationOptions,
    SubjectOptions,
    plan_evaluation,
    plan_verification,
)
from robench.evaluation.run import EvaluationProgress
from robench.evaluation.run import run as run_evaluation
from robench.evaluation.shards import Scale
from robench.evaluation.target import Subject, load_model
from robench.evaluation.verification import Verification
from robench.ledger.summary import Summary
from robench.models.checkpoint import Card
from robench.reports import comparison, drawing, ranking, seeds, tables
from robench.reports.comparison import Comparison
from robench.reports.figure_data import Drawing
from robench.search.catalog import attack as configured_attack
from robench.specs.choices import DATASET, EvaluationProtocol, Mode, Precision
from robench.training import interruption, loop
from robench.training.plan import checkpoint_path, plan_training
from robench.training.start import check_start
from robench.training.tensorboard import TensorBoardProgress
from robench.utils.deadline import Deadline
from robench.utils.device import resolve_device
from robench.utils.sizes import Size

__all__ = [
    "CallableAttack",
    "Trained",
    "attack",
    "bench",
    "compare",
    "evaluate",
    "figure",
    "leaderboard",
    "load_model",
    "reproduce",
    "table",
    "train",
    "verify",
]


@dataclass(frozen=True)
class Trained:
    """A finished training: the checkpoint's path and what it says of itself."""

    path: Path
    card: Card


def attack(name: str) -> CallableAttack:
    """Returns the attack of that name, such as "pgd-20", "pgd-20:restarts=5" or "FILE.py:key=value", as a function.

    Raises UserError where there is no such attack or setting.
    """
    return CallableAttack(name, configured_attack(name))


@torch.inference_mode(False)
def evaluate(
    model: Evaluable,
    *,
    suite: str | None = None,
    attacks: Sequence[str] = (),
    dataset: str | None = None,
    data_root: Path | str = "data",
    download: bool = False,
    eps: Size | None = None,
    norm: str | None = None,
    arch: str | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    n: int | None = None,
    sources: Sequence[str | Path | nn.Module | Subject] = (),
    mode: Mode | None = None,
    protocol: EvaluationProtocol = "adaptive",
    draws: int | None = None,
    seed: int = 0,
    device: str | None = None,
    batch_size: int | None = None,
    precision: Precision = "auto",
    save_adversarial: Path | str | None = None,
    workers: int = 1,
    executor: str | None = None,
    part: str | None = None,
    timeout: str | float | None = None,
    results: Path | str = "results",
    progress: EvaluationProgress | None = None,
) -> Summary:
    """Attacks a model with a battery and returns its accuracies; outcomes go to the ledger, and come from it.

    model: a checkpoint's path, "FACTORY.py:function" (runs that code), a name such as "torchvision:resnet50",
        "timm:NAME", "hf:DIR_OR_NAME" or "robustbench:NAME", an nn.Module on images [B, C, H, W] in [0, 1], or a
        function on arrays: float32 images [B, C, H, W] -> scores [B, classes] or labels [B], for attacks without
        gradients.
    suite, attacks: a named list of attacks, and attacks beside it, such as "pgd-20:restarts=5" or "FILE.py:key=value";
        by default the suite quick, or black_box where the model gives no gradient.
    dataset, data_root, download: its test images, by default the checkpoint's data set, else the digits; the folder of
        torchvision's sets; whether to fetch what is missing there, and of a model by its name.
    eps, norm: the radius, and "linf" or "l2".
    arch, mean, std: of a bare state dict: its architecture, and the normalisation of each channel.
    n: the first n examples; all by default.
    sources: models for attacks by transfer.
    mode: "columns", every attack on every example, or "worst-case", only on those that no earlier attack broke; by
        default the suite's.
    protocol: "adaptive", or "static": the attacker leaves out the model's test-time transform.
    draws: passes whose mean an attack on a stochastic model sees, by default 10.
    seed: of all random numbers, from 0 to 2**31 - 1.
    device: "cpu" or "cuda"; by default CUDA where there is one.
    batch_size: examples attacked together, by default 128, and 512 on CUDA.
    precision: of gradients, "auto", "float32" or "bfloat16"; what they find is judged in float32.
    save_adversarial: a folder for x_adv, an .npz for each attack.
    workers, executor: several workers share the examples of each attack: processes of this machine, which a script
        starts under `if __name__ == "__main__":`, or with executor="ray" Ray's.
    part: "2/4" runs the second of four parts of the examples.
    timeout: of each attack, such as "10m" or a number of seconds: examples that it has not come to by then are noted as
        errors, and the next attack is run. It runs in a process of its own, as with several workers.
    results: the folder of the ledger.
    progress: is told how it goes.

    Raises UserError where something asked for does not exist or cannot be done on this model.
    """
    scale = Scale.of(workers, executor, part, timeout)
    options = EvaluationOptions(
        suite=suite,
        attacks=attacks,
        dataset=dataset,
        data_root=data_root,
        download=download,
        eps=eps,
        norm=norm,
        arch=arch,
        mean=mean,
        std=std,
        n=n,
        sources=sources,
        mode=mode,
        protocol=protocol,
        draws=draws,
        seed=seed,
        device=device,
        batch_size=batch_size,
        precision=precision,
    )
    return run_evaluation(plan_evaluation(model, options), results, progress, save_adversarial, scale)


@torch.inference_mode(False)
def verify(
    model: Evaluable,
    adversarial: Path | str,
    *,
    dataset: str | None = None,
    data_root: Path | str = "data",
    download: bool = False,
    eps: Size | None = None,
    norm: str | None = None,
    arch: str | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    device: str | None = None,
    eight_bit: bool = False,
) -> Verification:
    """Judges adversarial examples that someone else made.

    adversarial: an .npz file with x_adv [N, C, H, W] in [0, 1], and x [N, C, H, W] and y [N], or ids [N]: rows of the
        data set's test images.
    eight_bit: x_adv is rounded to uint8 and back first.

    The other keywords are those of `evaluate`. Raises UserError where the file is not such a one, or does not fit the
    data set.
    """
    options = SubjectOptions(
        dataset=dataset,
        data_root=data_root,
        download=download,
        eps=eps,
        norm=norm,
        arch=arch,
        mean=mean,
        std=std,
        device=device,
    )
    return plan_verification(model, adversarial, options, eight_bit=eight_bit)()


@torch.inference_mode(False)
def train(
    defense: str,
    *,
    dataset: str = DATASET,
    data_root: Path | str = "data",
    download: bool = False,
    arch: str | None = None,
    eps: Size | None = None,
    norm: str | None = None,
    epochs: int | None = None,
    limit: int | None = None,
    labels: int | None = None,
    target: str | None = None,
    settings: Mapping[str, Any] | None = None,
    init: Path | str | None = None,
    out: Path | str | None = None,
    resume: bool = False,
    overwrite: bool = False,
    seed: int = 0,
    device: str | None = None,
    precision: str = "float32",
    tensorboard: Path | str | None = None,
    results: Path | str = "results",
    progress: loop.TrainingProgress | None = None,
) -> Trained:
    """Trains a defense by its recipe and returns its checkpoint.

    defense: a recipe's name, or a .py file with a Defense.
    dataset, data_root, download: its training images: a name, "parquet:DIR", "imagefolder:DIR" or "npz:FILE"; the
        folder of torchvision's sets; whether to fetch one that is missing there.
    arch: the architecture.
    eps, norm: the radius to train within, and "linf" or "l2".
    epochs: the length; drops of the learning rate scale with it.
    limit: the first so many images.
    labels: so many images keep their label, as many of each class.
    target: the data set whose domain to adapt to, without its labels.
    settings: of the defense or the training, by name, as `--set` changes them.
    init: a checkpoint whose weights to start from.
    out: the checkpoint to write; by default it gets a name in the folder `checkpoints` of the results.
    resume: goes on with an interrupted training, and takes a finished one.
    overwrite: trains anew where a checkpoint, or the state of an interrupted training, is there already.
    seed: of the weights, the order and all random numbers, from 0.
    device: "cpu" or "cuda"; by default CUDA where there is one.
    precision: "float32" or "bfloat16".
    tensorboard: a folder for TensorBoard's events.
    results: the folder of results.
    progress: is told how it goes.

    Raises UserError where something asked for does not exist or cannot be written, or what is there would be lost. An
    interrupt, or SIGTERM, is raised as a KeyboardInterrupt at the end of the step, when the state is saved.
    """
    plan = plan_training(
        defense,
        dataset=dataset,
        data_root=data_root,
        download=download,
        arch=arch,
        eps=eps,
        norm=norm,
        epochs=epochs,
        limit=limit,
        labels=labels,
        target=target,
        settings=settings,
        init=init,
        seed=seed,
        precision=precision,
    )
    path = Path(out) if out else checkpoint_path(plan, results)
    check_start(path, resume=resume, overwrite=overwrite)
    if tensorboard is not None:
        progress = TensorBoardProgress(Path(tensorboard), progress or loop.SilentTraining())
    return Trained(
        path, interruption.train(plan, path, device=resolve_device(device), resume=resume, progress=progress)
    )


def bench(
    name: str,
    *,
    data_root: Path | str = "data",
    download: bool = False,
    results: Path | str = "results",
    device: str | None = None,
    dataset: str | None = None,
    arch: str | None = None,
    eps: Size | None = None,
    n: int | None = None,
    limit: int | None = None,
    epochs: int | None = None,
    workers: int = 1,
    timeout: str | float | None = None,
    labels: int | None = None,
    target: str | None = None,
    reporter: Reporter | None = None,
) -> pd.DataFrame:
    """Trains or loads every model of a benchmark, evaluates them, writes the leaderboard, and returns its rows of it.

    A model whose checkpoint exists is not trained again, an example in the ledger not attacked again. The columns are
    those of `robench.reports.ranking.frame_of`; accuracies are fractions.

    name: a benchmark's name, or a .yaml file.
    dataset, arch, eps, n, limit, epochs: cut it to a machine: another data set, with its usual radius, or another
        radius; the architecture to train; evaluate on the first n examples; train on the first `limit` images, for so
        many epochs.
    labels, target: as in `train`, for another panel of its figure.
    workers: processes that share the examples of each attack.
    timeout: of each attack, as in `evaluate`.
    reporter: is told how it goes.

    The other keywords are those of `evaluate`. Raises UserError where the benchmark is wrong, before anything is
    trained.
    """
    cuts = Cuts(dataset, arch, eps, n, limit, epochs, labels, target)
    workspace = Workspace.of(results, data_root, download, device)
    return run_benchmark(name, cuts, workspace, scale=Scale.of(workers, timeout=timeout), reporter=reporter)


def reproduce(
    queue: str = "reproduce",
    *,
    budget: str | None = None,
    only: str = "*",
    data_root: Path | str = "data",
    download: bool = False,
    results: Path | str = "results",
    device: str | None = None,
    reporter: Reporter | None = None,
) -> Report:
    """Works through a queue of trainings and evaluations within a time, and tells what became of each.

    What is unfinished is taken up by the next call; `robench.benchmarking.forecast` tells the time beforehand.

    queue: a queue's name, or a .yaml file.
    budget: a time such as "20m", "90s" or "1h30m".
    only: the items whose names match, such as "mnist-*".
    reporter: is told how it goes.

    The other keywords are those of `evaluate`. Raises UserError where the queue is wrong, before anything is trained.
    """
    deadline = Deadline.within(budget) if budget else None
    workspace = Workspace.of(results, data_root, download, device)
    return run_queue(queue, workspace, only=only, deadline=deadline, reporter=reporter)


def leaderboard(results: Path | str = "results", *, over_seeds: bool = False) -> pd.DataFrame:
    """Returns everything the ledger holds, one row a model, or one for all seeds of a recipe; accuracies are fractions.

    The columns are those of `robench.reports.ranking.frame_of`, or of `robench.reports.seeds.over_seeds`. Raises
    UserError where there is nothing to rank.
    """
    frame = ranking.leaderboard(results)
    return seeds.over_seeds(frame) if over_seeds else frame


def compare(first: str, second: str, results: Path | str = "results") -> list[Comparison]:
    """Compares two models of the ledger on the examples they share, for each data set and threat that both met.

    first, second: their names in the ledger, or the beginnings of them. Raises UserError where there is no such model.
    """
    return comparison.compare(first, second, results)


def table(id: str, results: Path | str = "results") -> list[tables.Grid]:
    """Returns a paper's table, a part for each data set: what is printed and what was measured.

    id: one of `robench list tables`; UserError where there is no such table.
    """
    return tables.build(id, results)


def figure(id: str, results: Path | str = "results") -> Drawing:
    """Returns a paper's figure, drawn from what was measured, with its caption and data.

    id: one of `robench list figures`; UserError where there is no such figure.
    """
    return drawing.draw(id, results)
