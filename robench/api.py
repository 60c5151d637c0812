"""robench from Python: one function for each command, with the same words."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from robench import checkpoint, data, evaluation, ranking, recipe, training
from robench.battery import Attack, battery
from robench.battery import attack as configured_attack
from robench.classifier import Classifier
from robench.draws import Draws
from robench.errors import UserError
from robench.evaluation import Evaluation
from robench.ledger import Ledger
from robench.provenance import run_manifest
from robench.search import Search
from robench.subject import Subject, load_model
from robench.summary import Summary, summarise
from robench.threat import Size, ThreatModel
from robench.verify import Judge

__all__ = ["attack", "bench", "evaluate", "leaderboard", "load_model", "train"]

DATASET = "digits"


@dataclass(frozen=True)
class Trained:
    """A finished training: the checkpoint's path and what it says of itself."""

    path: Path
    card: checkpoint.Card


def attack(name: str) -> Callable[..., Tensor]:
    """The attack of that name (or "FILE.py:key=value") as a function.

    It takes (model, x, y, *, eps, norm="linf", seed=0): x [B, C, H, W] float32 in [0, 1], y [B] integers; and gives
    x_adv [B, C, H, W], for each example the first candidate that fooled the model, else the one that came nearest.
    """
    configured = configured_attack(name)

    def run(model: nn.Module, x: Tensor, y: Tensor, *, eps: Size, norm: str = "linf", seed: int = 0) -> Tensor:
        images = data.Split("x", x.detach(), y.detach().long())  # checks both
        if images.images.dtype == torch.uint8:
            raise UserError("expected images as floats in [0, 1], got uint8")
        return _run_attack(configured, model, images, ThreatModel.of(norm, eps), seed)

    return run


def _run_attack(configured: Attack, model: nn.Module, images: data.Split, threat: ThreatModel, seed: int) -> Tensor:
    x, y = images.images.float(), images.labels
    classifier = Classifier(model, x.device)
    evaluation.check_model(classifier, images, type(model).__name__)
    draws = Draws(seed, np.arange(len(x)), x.device)
    search = Search(classifier, Judge(classifier, threat), threat, x, y, draws, access=configured.access)
    return search.run(configured, configured.restarts).kept


def plan_evaluation(
    model: str | Path | nn.Module | Subject,
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
    seed: int = 0,
    device: str | None = None,
    batch_size: int = 128,
) -> Evaluation:
    """Everything `evaluate` is about to use. What is not given comes from the checkpoint, else from the defaults."""
    if batch_size < 1:
        raise UserError(f"expected a batch size of at least 1, got {batch_size}")
    if seed < 0:
        raise UserError(f"expected a seed of at least 0, got {seed}")
    chosen, readings = battery(suite, attacks)
    card = None
    if not isinstance(model, nn.Module | Subject) and not str(model).rpartition(":")[0].endswith(".py"):
        card = checkpoint.card_of(checkpoint.read(Path(model)))
    dataset = dataset or (card.dataset if card else DATASET)
    split = data.load(dataset, "test", root=data_root, download=download)
    subject = (
        model if isinstance(model, Subject) else load_model(model, arch=arch, shape=split.shape, mean=mean, std=std)
    )
    card = subject.card
    threat = ThreatModel.of(
        norm or (card.norm if card else "linf"),
        eps if eps is not None else card.eps if card else recipe.default_eps(dataset, split.shape),
    )
    return Evaluation(subject, split, threat, chosen, readings, seed, resolve_device(device), batch_size)


def evaluate(
    model: str | Path | nn.Module | Subject,
    *,
    n: int | None = None,
    results: Path | str = "results",
    progress: evaluation.Progress | None = None,
    **options: Any,
) -> Summary:
    """Attacks a model with a battery and gives its accuracies; outcomes go to the ledger, and come from it.

    model: a checkpoint's path, "FACTORY.py:function", or an nn.Module on images in [0, 1]. n: the first n examples.
    The other options are those of `plan_evaluation`.
    """
    return run_evaluation(plan_evaluation(model, **options), n=n, results=results, progress=progress)


def run_evaluation(
    planned: Evaluation, *, n: int | None, results: Path | str, progress: evaluation.Progress | None = None
) -> Summary:
    check_n(n)
    run = run_manifest(planned.device)
    return summarise(evaluation.evaluate(planned, Ledger(results), run, n=n, progress=progress), n)


def check_n(n: int | None) -> None:
    if n is not None and n < 1:
        raise UserError(f"expected n of at least 1, got {n}")


def plan_training(
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
    settings: Mapping[str, Any] | None = None,
    init: Path | str | None = None,
    seed: int = 0,
    precision: str = "float32",
) -> training.Plan:
    """Everything `train` is about to use: the recipe's settings for the data set, changed by what is given."""
    named = {"arch": arch, "eps": eps, "norm": norm, "epochs": epochs}
    changes = {**(settings or {}), **{name: value for name, value in named.items() if value is not None}}
    if defense not in recipe.names() and not defense.endswith(".py"):
        recipe.resolve(defense, dataset, (), {})  # says so before the data is read
    split = data.load(dataset, "train", root=data_root, download=download)
    weights = None
    if init is not None:
        weights = checkpoint.state_dict_of(checkpoint.read(Path(init)), str(init))
    resolved = recipe.resolve(defense, dataset, split.shape, changes)
    return training.Plan(resolved, dataset, split, limit, seed, precision, weights)


def train(
    defense: str,
    *,
    out: Path | str | None = None,
    results: Path | str = "results",
    resume: bool = False,
    device: str | None = None,
    progress: training.Progress | None = None,
    **options: Any,
) -> Trained:
    """Trains a defense by its recipe and gives the checkpoint. The other options are those of `plan_training`."""
    plan = plan_training(defense, **options)
    path = Path(out) if out else checkpoint_path(plan, results)
    return Trained(path, training.train(plan, path, device=resolve_device(device), resume=resume, progress=progress))


def bench(name: str, **options: Any) -> pd.DataFrame:
    """Trains or loads every model of a benchmark, evaluates them, writes the leaderboard, and gives its rows of it."""
    from robench.benchmark import run

    return run(name, **options)


def leaderboard(results: Path | str = "results") -> pd.DataFrame:
    """Everything the ledger holds, one row a model."""
    return ranking.leaderboard(results)


def checkpoint_path(plan: training.Plan, results: Path | str) -> Path:
    return Path(results) / "checkpoints" / f"{plan.name}.pt"


def resolve_device(device: str | None) -> str:
    """The device asked for; by default CUDA where there is one."""
    if device is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device not in ("cpu", "cuda"):
        raise UserError(f"expected the device cpu or cuda (CUDA_VISIBLE_DEVICES chooses among several), got {device!r}")
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("the device cuda is not available here; cpu is")
    return device
