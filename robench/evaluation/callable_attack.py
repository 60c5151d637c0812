"""An attack called from Python on a batch of images, with no data set and no ledger around it."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from robench.data import datasets
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
from robench.utils.errors import Notice, UserError
from robench.utils.global_rng import reseed, undisturbed
from robench.utils.sizes import Size


@dataclass(frozen=True)
class CallableAttack:
    """An attack as a function of a model and a batch."""

    name: str
    configured: Attack

    @torch.inference_mode(False)
    def __call__(
        self,
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
        """Returns x_adv [B, C, H, W]: of each example the first candidate that fooled the model, else the nearest.

        model: gives logits [B, classes] for images in [0, 1]; one that draws random numbers is judged by votes as in
            `evaluate`.
        x, y: floats [B, C, H, W] in [0, 1] and integers [B], on the model's device.
        eps, norm: the radius, in units of [0, 1] or as "8/255", and "linf" or "l2".
        seed: of all random numbers; those of an example are the same in any batch.
        draws: passes whose mean the attack sees where the model is stochastic.
        images: (x [N, C, H, W], y [N]), the pool that an attack such as `feature` draws its targets from.
        sources: the models that `transfer` attacks in place of this one.
        training: (x [N, C, H, W], y [N]), on which an attack such as `adt_exp_am` trains its generator.

        Raises UserError where the attack cannot be run on the model, or lacks images, sources or training. An example
        on which it fails is warned of, and returned as it was best.
        """
        split = _checked(x, y)
        threat = ThreatModel.asked(norm, eps, split.shape)
        target = probed(from_module(model), split, x.device)
        given = Resources(
            Images.of(*images) if images else None,
            Sources(tuple(Classifier(source, x.device) for source in sources)) if sources else None,
            TrainingImages(*training) if training else None,
        )
        task = target.task(threat, split, given.kinds, [probed(from_module(s), split, x.device) for s in sources])
        if obstacle := self.configured.obstacle(task):
            asked = "; give images=(x, y), sources=[model] or training=(x, y) where it says so"
            raise UserError(
                f"{self.name} cannot be run: {obstacle}{asked if self.configured.needs - given.kinds else ''}"
            )
        self.configured.check_lengths(threat, split.shape)
        for part, why in self.configured.unfit(task).items():
            warnings.warn(f"{part} of {self.name} was skipped: {why}", Notice, stacklevel=2)
        stochastic = target.behaviour.stochastic
        classifier = Classifier(model, x.device, draws if stochastic else 1)
        judge = Judge(classifier, threat, VOTES if stochastic else 1)
        return _run_attack(self.configured.fitted(task), judge, split, seed, given)


def _checked(x: Tensor, y: Tensor) -> datasets.Split:
    if x.dtype == torch.uint8:
        raise UserError("expected images as floats in [0, 1], got uint8")
    return datasets.Split("x", x.detach().float().clone(), y.detach().long().clone())  # tensors of inference too


def _run_attack(configured: Attack, judge: Judge, images: datasets.Split, seed: int, given: Resources) -> Tensor:
    x, y = images.floats(slice(None)), images.labels
    draws = Draws(seed, np.arange(len(x)), x.device)
    search = Search(judge.classifier, judge, judge.threat, x, y, draws, access=configured.access, resources=given)
    with undisturbed(x.device):
        reseed(seed)
        outcome = search.run(configured, configured.restarts)
    for row, why in outcome.failures.items():
        warnings.warn(f"{configured.name} failed on example {row}: {why}", RuntimeWarning, stacklevel=3)
    return outcome.kept
