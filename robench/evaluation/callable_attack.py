"""An attack called from Python on a batch of images, with no data set and no ledger around it."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from robench.data import arrays, datasets, objects
from robench.data.datasets import DataSource
from robench.evaluation.evaluation import DRAWS
from robench.evaluation.plan import probed
from robench.evaluation.target import from_module
from robench.search.attack import Attack
from robench.search.classifier import Classifier
from robench.search.judge import VOTES, Judge
from robench.search.resources import Images, Resources, Sources, TrainingImages
from robench.search.rng import Draws
from robench.search.search import Search
from robench.threat import ThreatModel
from robench.utils.arguments import checked
from robench.utils.errors import Notice, UserError
from robench.utils.global_rng import reseed, undisturbed
from robench.utils.sizes import Size, check_count, check_seed

Pixels = TypeVar("Pixels", Tensor, np.ndarray)
"""Images [B, ...]."""


CALLER = 4
"""Whose line a warning is of: the caller's of an attack, beyond the two frames that prepare the call."""


@dataclass(frozen=True)
class CallableAttack:
    """An attack as a function of a model and a batch."""

    name: str
    configured: Attack

    @checked
    @torch.inference_mode(False)
    def __call__(
        self,
        model: nn.Module,
        x: Pixels,
        y: Tensor | np.ndarray | Sequence[int],
        *,
        eps: Size,
        norm: str = "linf",
        seed: int = 0,
        draws: int = DRAWS,
        images: DataSource | None = None,
        sources: Sequence[nn.Module] = (),
        training: DataSource | None = None,
    ) -> Pixels:
        """Returns x_adv, floats in [0, 1] in the shape of x and, as x is, a tensor or an array: of each example the
        first candidate that fooled the model, else the nearest.

        model: gives logits [B, classes] for images in [0, 1]; one that draws random numbers is judged by votes as in
            `evaluate`.
        x, y: images [B, C, H, W], or as `evaluate` takes them, and integers [B]; a tensor on the model's device.
        eps, norm: the radius, in units of [0, 1] or as "8/255", and "linf" or "l2".
        seed: of all random numbers; those of an example are the same in any batch.
        draws: passes whose mean the attack sees where the model is stochastic.
        images: (x, y), or what else `evaluate` takes for a data set: the pool that an attack such as `feature` draws
            its targets from.
        sources: the models that `transfer` attacks in place of this one.
        training: likewise, on which an attack such as `adt_exp_am` trains its generator.

        Raises UserError where the attack cannot be run on the model, or lacks images, sources or training. An example
        on which it fails is warned of, and returned as it was best.
        """
        check_seed(seed)
        check_count(draws, "draws")
        x = x if isinstance(x, Tensor) else objects.as_array(x, "x")
        device = x.device if isinstance(x, Tensor) else _device_of(model)
        split = _batch(x, y).to(device)
        threat = ThreatModel.asked(norm, eps, split.shape)
        target = probed(from_module(model), split, device)
        others = [from_module(source) for source in sources]
        given = Resources(
            None if images is None else Images.of(*_pool(images, device)),
            Sources(tuple(Classifier(source.model, device) for source in others)) if others else None,
            None if training is None else TrainingImages(*_pool(training, device)),
        )
        task = target.task(threat, split, given.kinds, [probed(other, split, device) for other in others])
        if obstacle := self.configured.obstacle(task):
            asked = "; give images=(x, y), sources=[model] or training=(x, y) where it says so"
            raise UserError(
                f"{self.name} cannot be run: {obstacle}{asked if self.configured.needs - given.kinds else ''}"
            )
        self.configured.check_lengths(threat, split.shape)
        for part, why in self.configured.unfit(task).items():
            warnings.warn(f"{part} of {self.name} was skipped: {why}", Notice, stacklevel=CALLER)
        stochastic = target.behaviour.stochastic
        classifier = Classifier(model, device, draws if stochastic else 1)
        judge = Judge(classifier, threat, VOTES if stochastic else 1)
        return _in_the_form_of(x, _run_attack(self.configured.fitted(task), judge, split, seed, given))


def _batch(x: Any, y: Any) -> datasets.Split:
    """A batch as the engine takes it; of a tensor whose shape does not tell, the channels are second."""
    images = arrays.images(objects.as_array(x, "x"), "x", objects.layout(x))
    labels = arrays.labels(objects.as_array(y, "y"), "y")
    return datasets.Split("x", torch.from_numpy(images.copy()), torch.from_numpy(labels))


def _in_the_form_of(x: Pixels, x_adv: Tensor) -> Pixels:
    """x_adv [B, C, H, W] in the axes and the kind of x."""
    if objects.layout(x) == "NHWC":
        x_adv = x_adv.permute(0, 2, 3, 1)
    x_adv = x_adv.reshape(x.shape)
    if isinstance(x, Tensor):
        return x_adv
    return x_adv.cpu().numpy()


def _pool(source: DataSource, device: torch.device) -> tuple[Tensor, Tensor]:
    """All training images of a data set, on the device."""
    split = datasets.load(source, "train").to(device)
    return split.floats(slice(None)), split.labels


def _device_of(model: nn.Module) -> torch.device:
    return next((tensor.device for tensor in chain(model.parameters(), model.buffers())), torch.device("cpu"))


def _run_attack(configured: Attack, judge: Judge, images: datasets.Split, seed: int, given: Resources) -> Tensor:
    x, y = images.floats(slice(None)), images.labels
    draws = Draws(seed, np.arange(len(x)), x.device)
    search = Search(judge.classifier, judge, judge.threat, x, y, draws, access=configured.access, resources=given)
    with undisturbed(x.device):
        reseed(seed)
        outcome = search.run(configured, configured.restarts)
    for row, why in outcome.failures.items():
        warnings.warn(f"{configured.name} failed on example {row}: {why}", RuntimeWarning, stacklevel=CALLER + 1)
    return outcome.kept
