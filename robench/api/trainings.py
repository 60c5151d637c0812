"""Trains models."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from robench.data.datasets import DataSource
from robench.data.preparation import Side
from robench.models.checkpoint import Card
from robench.specs.choices import DATASET
from robench.training import interruption, loop
from robench.training.plan import checkpoint_path, plan_training
from robench.training.start import check_start
from robench.training.tensorboard import TensorBoardProgress
from robench.utils.arguments import checked
from robench.utils.device import resolve_device
from robench.utils.sizes import Size


@dataclass(frozen=True)
class Trained:
    """A finished training: the checkpoint's path and what it says of itself."""

    path: Path
    card: Card


@checked
@torch.inference_mode(False)
def train(
    defense: str,
    *,
    dataset: DataSource = DATASET,
    resize: Side | None = None,
    crop: Side | None = None,
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
    weights: str | None = None,
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
    dataset, resize, crop: its training images, as `evaluate` takes them.
    data_root, download: the folder of torchvision's sets; whether to fetch one that is missing there.
    arch: the architecture, or "FILE.py:NAME" of a function or class of yours (runs that code).
    eps, norm: the radius to train within, and "linf" or "l2".
    epochs: the length; drops of the learning rate scale with it.
    limit: the first so many images.
    labels: so many images keep their label, as many of each class.
    target: the data set whose domain to adapt to, without its labels.
    settings: of the defense or the training, by name, as `--set` changes them.
    init, weights: a file of weights to start from, and the key of those to take where it holds several. A head for
        another number of classes is left out, and starts afresh.
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
        resize=resize,
        crop=crop,
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
        weights=weights,
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
