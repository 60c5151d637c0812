"""Attacks and defenses as settings of a measurement, and every adversarial example that they make of an image.

An evaluation drops broken images and keeps one candidate of each; here all images run to the end.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Self

import numpy as np
import torch
from pydantic import PlainSerializer, PlainValidator
from torch import Tensor

from robench.evaluation.evaluation import Evaluation
from robench.models.description import describe
from robench.search.attack import Attack
from robench.search.catalog import attack
from robench.search.classifier import Classifier
from robench.search.rng import Draws
from robench.search.search import Search
from robench.training import recipe
from robench.training.defense import MODEL, Batch, Defense, Step
from robench.utils.errors import UserError
from robench.utils.global_rng import reproducible, undisturbed


def _defense_key(defense: Defense) -> dict[str, Any]:
    return {"settings": asdict(defense), "source": describe(type(defense)).fingerprint}


NamedAttack = Annotated[Attack, PlainValidator(lambda name: attack(str(name))), PlainSerializer(Attack.key)]
"""An attack as it is written in a battery: "pgd-20:restarts=50"."""

NamedDefense = Annotated[Defense, PlainValidator(lambda name: recipe.written(str(name))), PlainSerializer(_defense_key)]
"""A defense by its file, with settings: "ald:loss=ce,steps=200"."""


@dataclass(frozen=True)
class Examples:
    """x [B, ...] and y [B] on the device of an evaluation, and their rows in its data set."""

    x: Tensor
    y: Tensor
    rows: np.ndarray

    @classmethod
    def of(cls, evaluation: Evaluation, rows: Sequence[int]) -> Self:
        index = np.array(rows)
        split = evaluation.split.take(index).to(torch.device(evaluation.device))
        return cls(split.floats(slice(None)), split.labels, index)

    @classmethod
    def batches(cls, evaluation: Evaluation) -> Iterator[Self]:
        """All that are to be evaluated, in batches of the evaluation's size."""
        wanted, size = evaluation.wanted, evaluation.batch_size
        for first in range(0, len(wanted), size):
            yield cls.of(evaluation, wanted[first : first + size])


class WholeSearch(Search):
    """A search that no image leaves; it keeps the points offered last."""

    offered: Tensor

    def __init__(self, evaluation: Evaluation, attack: Attack, examples: Examples, seed: int) -> None:
        device = torch.device(evaluation.device)
        judge = evaluation.judges(device)[1]
        super().__init__(
            judge.classifier,
            judge,
            evaluation.threat,
            examples.x,
            examples.y,
            Draws(seed, examples.rows, device),
            access=attack.access,
            drop=False,
            batch_size=evaluation.batch_size,
        )
        self.attack = attack

    def offer(self, x_adv: Tensor) -> None:
        self.offered = x_adv
        super().offer(x_adv)

    def drive(self, restart: int = 0) -> Tensor:
        """What a restart of the attack offers last: k points of each example, [B, k, ...]."""
        with undisturbed(self.x.device), reproducible(self.draws.seed + restart):
            self.run(self.attack, first=restart)
        return self.offered.reshape(len(self.x), -1, *self.shape)


def ends(evaluation: Evaluation, attack: Attack, examples: Examples, seed: int) -> Tensor:
    """Where all restarts of an attack end, [B, k, ...]: one point a restart, or as many as it draws at its end."""
    task = evaluation.task(())
    if obstacle := attack.obstacle(task):
        raise UserError(f"{attack.name} cannot be run: {obstacle}")
    search = WholeSearch(evaluation, attack.fitted(task), examples, seed)
    return torch.cat([search.drive(restart) for restart in range(attack.restarts)], 1)


def particles(evaluation: Evaluation, defense: Defense, examples: Examples, count: int, seed: int) -> Tensor:
    """The `count` particles of each example, [B, count, ...], on which a defense with that setting would train the
    model if it were in evaluation mode."""
    name = type(defense).__name__
    defense = recipe.configure(type(defense), {**asdict(defense), "particles": count}, name)
    device = torch.device(evaluation.device)
    model = Classifier(evaluation.subject.model, device).model
    step = Step({MODEL: model}, evaluation.threat, torch.Generator(device).manual_seed(seed), epoch=0.0)
    with undisturbed(device), reproducible(seed):
        defense.losses(Batch(examples.x, examples.y), step)
    x_adv = step.memory.get("x_adv", examples.x[:0])
    if len(x_adv) != count * len(examples.x):
        raise UserError(f"expected a defense that keeps {count} particles of each example, {name} keeps {len(x_adv)}")
    return x_adv.view(count, *examples.x.shape).transpose(0, 1)


def fooled(evaluation: Evaluation, points: Tensor, examples: Examples) -> float:
    """The share of points [B, k, ...] that are adversarial examples."""
    count = points.shape[1]
    x, y = examples.x.repeat_interleave(count, 0), examples.y.repeat_interleave(count)
    verdicts = evaluation.judges(examples.x.device)[0](points.flatten(0, 1), x, y)
    return float(verdicts.fooled.float().mean())


def pair_distances(points: Tensor) -> Tensor:
    """l2 between any two of the k points of an example: [B, k, ...] -> [B, k (k - 1) / 2]."""
    flat = points.flatten(2)
    first, second = torch.triu_indices(points.shape[1], points.shape[1], 1, device=points.device)
    return torch.cdist(flat, flat, compute_mode="donot_use_mm_for_euclid_dist")[:, first, second]
