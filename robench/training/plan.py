"""From the words of a command to the training that it is about to run, checked before anything is trained."""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from robench.data import datasets
from robench.data.resize import common
from robench.models import checkpoint
from robench.specs.choices import DATASET
from robench.training import recipe
from robench.training.training_plan import Plan
from robench.utils.errors import Notice
from robench.utils.sizes import Size


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
    labels: int | None = None,
    target: str | None = None,
    settings: Mapping[str, Any] | None = None,
    init: Path | str | None = None,
    seed: int = 0,
    precision: str = "float32",
) -> Plan:
    """Everything `train` is about to use: the recipe's settings for the data set, changed by what is given."""
    named = {"arch": arch, "eps": eps, "norm": norm, "epochs": epochs}
    named |= {"labels": labels, "target_domain": target}
    changes = {**(settings or {}), **{name: value for name, value in named.items() if value is not None}}
    if defense not in recipe.names() and not defense.endswith(".py"):
        recipe.resolve(defense, dataset, (), {})  # says so before the data is read
    split = datasets.load(dataset, "train", root=data_root, download=download)
    weights = None
    if init is not None:
        weights = checkpoint.state_dict_of(checkpoint.read(Path(init)), str(init))
    resolved = recipe.resolve(defense, dataset, split.shape, changes)
    domain = None
    if resolved.setup.target_domain is not None:
        domain = datasets.load(resolved.setup.target_domain, "train", root=data_root, download=download)
        shape = common(split.shape, domain.shape)
        split, domain = split.shaped(shape), domain.shaped(shape)
    plan = Plan(resolved, dataset, split, limit, seed, precision, weights, domain)
    there = len(split) - resolved.setup.holdout
    if limit is not None and limit > there:
        text = f"a limit of {limit} images was asked for, {dataset} has {there} to train on: these are taken"
        warnings.warn(text, Notice, stacklevel=2)
    return plan


def checkpoint_path(plan: Plan, results: Path | str) -> Path:
    """Where a training's checkpoint lies in a results folder."""
    return Path(results) / "checkpoints" / f"{plan.name}.pt"
