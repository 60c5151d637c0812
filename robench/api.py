"""robench from Python: one function for each command, with the same words."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from robench.benchmarking.queue import Report
from robench.benchmarking.queue import run as run_queue
from robench.benchmarking.run import run as run_benchmark
from robench.data import datasets
from robench.evaluation.array_model import ArrayFunction
from robench.evaluation.evaluation import DRAWS
from robench.evaluation.plan import (
    checkpoint_path,
    plan_evaluation,
    plan_training,
    plan_verification,
    probed,
    resolve_device,
)
from robench.evaluation.run import Progress as EvaluationProgress
from robench.evaluation.run import run as run_evaluation
from robench.evaluation.shards import Scale
from robench.evaluation.target import Subject, from_module, load_model
from robench.evaluation.verification import Verification
from robench.ledger.summary import Summary
from robench.models.checkpoint import Card
from robench.reports import comparison, drawing, ranking, tables
from robench.reports.comparison import Comparison
from robench.reports.figure_data import Drawing
from robench.search.attack import Attack
from robench.search.catalog import attack as configured_attack
from robench.search.classifier import Classifier
from robench.search.judge import VOTES, Judge
from robench.search.resources import Images, Resources, Sources, TrainingImages
from robench.search.rng import Draws
from robench.search.search import Search
from robench.threat import ThreatModel
from robench.training import loop
from robench.utils.deadline import Deadline
from robench.utils.errors import Notice, UserError
from robench.utils.global_rng import reseed, undisturbed
from robench.utils.sizes import Size

__all__ = ["attack", "bench", "evaluate", "leaderboard", "load_model", "reproduce", "train", "verify"]


@dataclass(frozen=True)
class Trained:
    """A finished training: the checkpoint's path and what it says of itself."""

    path: Path
    card: Card


def attack(name: str) -> Callable[..., Tensor]:
    """The attack of that name (or "FILE.py:key=value") as a function.

    It takes (model, x, y, *, eps, norm="linf", seed=0, draws=10, images=None, sources=(), training=None): x
    [B, C, H, W] floats in [0, 1], y [B] integers; and gives x_adv [B, C, H, W]: of each example the first candidate
    that fooled the model, else the nearest to it. `images` (x, y) is the pool that an attack such as `feature` draws
    its targets from, `sources` are the models that `transfer` attacks in place of this one, `training` (x, y) the
    images on which an attack such as `adt_exp_am` trains its generator. A stochastic model is judged by votes as in
    `evaluate`, and the attack sees the mean of `draws` passes.
    """
    configured = configured_attack(name)

    @torch.inference_mode(False)
    def run(
        model: nn.Module,
        x: Tensor,
        y: Tensor,
        *,
        eps: Size,
        norm: str = "linf",
        seed: int = 0,
        draws: int = DRAWS,
        images: tuple[Tensor, Tensor] | None = None,
        sources: Sequence[nn.Module] = (),
        training: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        split = _checked(x, y)
        threat = ThreatModel.asked(norm, eps, split.shape)
        target = probed(from_module(model), split, x.device)
        lent = Resources(
            Images.of(*images) if images else None,
            Sources(tuple(Classifier(source, x.device) for source in sources)) if sources else None,
            TrainingImages(*training) if training else None,
        )
        task = target.task(threat, split, lent.kinds, [probed(from_module(s), split, x.device) for s in sources])
        if obstacle := configured.obstacle(task):
            asked = "; give images=(x, y), sources=[model] or training=(x, y) where it says so"
            raise UserError(f"{name} cannot be run: {obstacle}{asked if configured.needs - lent.kinds else ''}")
        configured.check_lengths(threat, split.shape)
        for part, why in configured.unfit(task).items():
            warnings.warn(f"{part} of {name} was skipped: {why}", Notice, stacklevel=2)
        stochastic = target.behaviour.stochastic
        classifier = Classifier(model, x.device, draws if stochastic else 1)
        judge = Judge(classifier, threat, VOTES if stochastic else 1)
        return _run_attack(configured.fitted(task), judge, split, seed, lent)

    return run


def _checked(x: Tensor, y: Tensor) -> datasets.Split:
    if x.dtype == torch.uint8:
        raise UserError("expected images as floats in [0, 1], got uint8")
    return datasets.Split("x", x.detach().float().clone(), y.detach().long().clone())  # tensors of inference too


def _run_attack(configured: Attack, judge: Judge, images: datasets.Split, seed: int, lent: Resources) -> Tensor:
    x, y = images.floats(slice(None)), images.labels
    draws = Draws(seed, np.arange(len(x)), x.device)
    search = Search(judge.classifier, judge, judge.threat, x, y, draws, access=configured.access, resources=lent)
    with undisturbed(x.device):
        reseed(seed)
        outcome = search.run(configured, configured.restarts)
    for row, why in outcome.failures.items():
        warnings.warn(f"{configured.name} failed on example {row}: {why}", RuntimeWarning, stacklevel=3)
    return outcome.kept


@torch.inference_mode(False)
def evaluate(
    model: str | Path | nn.Module | Subject | ArrayFunction,
    *,
    results: Path | str = "results",
    progress: EvaluationProgress | None = None,
    save_adversarial: Path | str | None = None,
    workers: int = 1,
    executor: str | None = None,
    part: str | None = None,
    **options: Any,
) -> Summary:
    """Attacks a model with a battery and gives its accuracies; outcomes go to the ledger, and come from it.

    model: a checkpoint's path, "FACTORY.py:function", an nn.Module on images in [0, 1], or a function on arrays:
    float32 images [B, C, H, W] -> scores [B, classes] or labels [B], for attacks without gradients. `save_adversarial`
    is a folder for their x_adv. Several `workers` share the examples of each attack: processes of this machine, which a
    script starts under `if __name__ == "__main__":`, or with `executor="ray"` Ray's; `part="2/4"` runs the second of
    four parts of the examples. The other options are those of `plan_evaluation`.
    """
    scale = Scale.of(workers, executor, part)
    return run_evaluation(plan_evaluation(model, **options), results, progress, save_adversarial, scale)


@torch.inference_mode(False)
def verify(
    model: str | Path | nn.Module | Subject | ArrayFunction, adversarial: Path | str, **options: Any
) -> Verification:
    """Judges adversarial examples that someone else made: an .npz file with x_adv, and x and y or ids.

    The other options are those of `plan_verification`.
    """
    return plan_verification(model, adversarial, **options)()


@torch.inference_mode(False)
def train(
    defense: str,
    *,
    out: Path | str | None = None,
    results: Path | str = "results",
    resume: bool = False,
    device: str | None = None,
    progress: loop.Progress | None = None,
    **options: Any,
) -> Trained:
    """Trains a defense by its recipe and gives the checkpoint. The other options are those of `plan_training`."""
    plan = plan_training(defense, **options)
    path = Path(out) if out else checkpoint_path(plan, results)
    return Trained(path, loop.train(plan, path, device=resolve_device(device), resume=resume, progress=progress))


def bench(name: str, **options: Any) -> pd.DataFrame:
    """Trains or loads every model of a benchmark, evaluates them, writes the leaderboard, and gives its rows of it.

    The options are those of `robench.benchmarking.run.run`.
    """
    return run_benchmark(name, **options)


def reproduce(queue: str = "reproduce", *, budget: str | None = None, **options: Any) -> Report:
    """Works through a queue of trainings and evaluations within a time such as "20m", and tells what became of each.

    The other options are those of `robench.benchmarking.queue.run`; `robench.benchmarking.forecast` tells the time
    beforehand.
    """
    return run_queue(queue, deadline=Deadline.within(budget) if budget else None, **options)


def leaderboard(results: Path | str = "results") -> pd.DataFrame:
    """Everything the ledger holds, one row a model."""
    return ranking.leaderboard(results)


def compare(first: str, second: str, results: Path | str = "results") -> list[Comparison]:
    """Two models of the ledger on the examples they share, for each data set and threat that both met."""
    return comparison.compare(first, second, results)


def table(id: str, results: Path | str = "results") -> list[tables.Grid]:
    """A paper's table, a part for each data set: what is printed and what was measured."""
    return tables.build(id, results)


def figure(id: str, results: Path | str = "results") -> Drawing:
    """A paper's figure, drawn from what was measured."""
    return drawing.draw(id, results)
