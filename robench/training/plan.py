"""What a training is about to run, checked before anything is trained, and the key that tells it from others."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any
from uuid import uuid4

import torch
from torch import Tensor

from robench.data import datasets, resize
from robench.data.datasets import DataSource, Split
from robench.data.preparation import Side
from robench.data.resize import common
from robench.models import architecture, checkpoint, make, outline_of
from robench.models.checkpoint import weights_fingerprint
from robench.models.description import describe
from robench.models.files.weights import Wanted, fitted
from robench.specs.choices import DATASET
from robench.training import recipe
from robench.training.recipe import Recipe
from robench.training.soft_labels import check_softened
from robench.utils import registry
from robench.utils.code import code_fingerprint, file_of
from robench.utils.errors import Notice, UserError
from robench.utils.fingerprints import fingerprint
from robench.utils.sizes import Size, check_count, check_seed

LOOP = file_of("robench.training.loop")
"""What trains: its code, and all that it imports, is in the key."""


@dataclass(frozen=True)
class Plan:
    """A training run with everything that could change its weights, but for the device, its thread count and the number
    of processes.

    `split` is the training part; `limit` takes the first so many of what `holdout` leaves.
    """

    recipe: Recipe
    dataset: str
    split: Split
    limit: int | None = None
    seed: int = 0
    precision: str = "float32"
    init: Mapping[str, Tensor] | None = None
    target: Split | None = None
    """the training part of the domain to adapt to, in the shape of `split`"""
    extra: Split | None = None
    """images to train on beside those of `split`"""

    def __post_init__(self) -> None:
        if self.precision not in ("float32", "bfloat16"):
            raise UserError(f"expected the precision float32 or bfloat16, got {self.precision!r}")
        check_seed(self.seed)
        check_count(self.limit, "a limit")
        check_softened(self.recipe.setup, self.recipe.defense, self.recipe.name)
        self._check_extra()
        if self.recipe.setup.holdout >= len(self.split):
            raise UserError(
                f"expected a holdout below the {len(self.split)} training images, got {self.recipe.setup.holdout}"
            )

    def _check_extra(self) -> None:
        setup = self.recipe.setup
        if setup.extra_data is not None and (setup.labels is not None or setup.target_domain is not None):
            raise UserError("extra_data is for training on labels: it goes with neither labels nor a target")

    def starting_from(self, init: Path | str, key: str | None = None) -> "Plan":
        """The same from the weights of a file, of which `key` chooses where it has several. A head for another number
        of classes is left out, and starts afresh.

        Raises UserError where anything else of them does not fit."""
        document = checkpoint.read(Path(init))
        card = checkpoint.card_of(document, str(init))
        arch = self.recipe.setup.arch
        outline = outline_of(architecture(arch), arch, self.split.shape)
        wanted = Wanted(outline, self.split.classes, key, new_head=True)
        found = fitted(checkpoint.weights_of(document, str(init)) if card else document, str(init), wanted)
        head = f"the head ({', '.join(found.new_head)}) of {init} does not fit {self.split.classes} classes: it starts "
        for notice in [*found.notices, *([f"{head}afresh"] if found.new_head else [])]:
            warnings.warn(notice, Notice, stacklevel=3)
        return replace(self, init=found.state)

    def describe(self) -> dict[str, Any]:
        """The recipe as it is run, JSON-like; a leaderboard shows the newest of those that agree in it and the seed."""
        return {
            **self.recipe.describe(),
            "limit": self.limit,
            "precision": self.precision,
            "init": weights_fingerprint(self.init) if self.init else None,
            **({"source": self.dataset} if self.target else {}),
        }

    def key(self) -> dict[str, Any]:
        """Everything that could change its weights, by what it is called where two trainings differ."""
        return {**self.describe(), "seed": self.seed, **self.inputs}

    @cached_property
    def inputs(self) -> dict[str, Any]:
        """What of its key no recipe tells: the images, and all code that makes the weights."""
        code = {
            "defense": describe(type(self.recipe.defense)),
            "network": describe(architecture(self.recipe.setup.arch)),
        }
        return {
            "data": [split.fingerprint for split in (self.split, self.target, self.extra) if split],
            "source": {
                "engine": code_fingerprint(LOOP),
                **{name: each.fingerprint for name, each in code.items()},
            },
            **({"alone": uuid4().hex} if any(each.hidden for each in code.values()) else {}),
        }

    @property
    def evaluated(self) -> str:
        """The data set that the model is for, in its shape: its own, or the target's."""
        target = self.recipe.setup.target_domain
        if self.target is None or target is None:
            return self.dataset
        _, shape = resize.named(self.target.name.removesuffix(" (train)"))
        return resize.name_of(target, shape) if shape else target

    @property
    def name(self) -> str:
        """A file name that tells what it is, and differs where anything does."""
        dataset = self.dataset.partition(":")[0]
        return f"{dataset}-{Path(self.recipe.name).stem}-s{self.seed}-{fingerprint(self.key())[:6]}"


def plan_training(
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
    seed: int = 0,
    precision: str = "float32",
) -> Plan:
    """Everything `train` is about to use: the recipe's settings for the data set, changed by what is given."""
    named = {"arch": arch, "eps": eps, "norm": norm, "epochs": epochs}
    named |= {"labels": labels, "target_domain": target}
    changes = {**(settings or {}), **{name: value for name, value in named.items() if value is not None}}
    if defense not in recipe.names() and not defense.endswith(".py"):
        recipe.resolve(defense, dataset if isinstance(dataset, str) else "", (), {})  # says so before the data is read
    split = datasets.load(dataset, "train", root=data_root, download=download, resize=resize, crop=crop)
    word = split.word
    resolved = recipe.resolve(defense, word, split.shape, changes)
    domain = None
    if resolved.setup.target_domain is not None:
        domain = datasets.load(resolved.setup.target_domain, "train", root=data_root, download=download)
        shape = common(split.shape, domain.shape)
        split, domain = split.shaped(shape), domain.shaped(shape)
    extra = None
    if resolved.setup.extra_data is not None:
        extra = datasets.load(resolved.setup.extra_data, "train", root=data_root, download=download)
        datasets.joined(split, extra)  # says so before training where they do not go together
    _check_users_network(resolved, split)
    plan = Plan(resolved, word, split, limit, seed, precision, target=domain, extra=extra)
    if init is not None:
        plan = plan.starting_from(init, weights)
    there = len(split) - resolved.setup.holdout
    if limit is not None and limit > there:
        text = f"a limit of {limit} images was asked for, {word} has {there} to train on: these are taken"
        warnings.warn(text, Notice, stacklevel=2)
    return plan


def _check_users_network(resolved: Recipe, split: Split) -> None:
    """Refuses a network of the user's that gives other logits than the data has classes."""
    arch = resolved.setup.arch
    if not registry.users_file(arch):
        return
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        network = make(arch, split.shape, split.classes).eval()
        try:
            logits = network(torch.zeros(1, *split.shape))
        except Exception as error:  # of the user's code
            raise UserError(f"{arch} cannot take images of shape {tuple(split.shape)}: {error}") from None
    given = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
    if given != (1, split.classes):
        raise UserError(f"expected logits of shape (1, {split.classes}) for an image from {arch}, got {given}")


def checkpoint_path(plan: Plan, results: Path | str) -> Path:
    """Where a training's checkpoint lies in a results folder."""
    return Path(results) / "checkpoints" / f"{plan.name}.pt"
