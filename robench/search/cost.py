"""How many passes an attack makes, counted on a stand-in model that nothing within the threat fools."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from robench.models.network import Network
from robench.search.attack import Attack
from robench.search.classifier import Classifier
from robench.search.judge import Judge
from robench.search.resources import Images, Resources, Sources, TrainingImages
from robench.search.rng import Draws
from robench.search.search import Search
from robench.threat import ThreatModel
from robench.utils.containment import Stop
from robench.utils.errors import UserError


class _Unbreakable(Network):
    """Gives class 0 within the threat around `image` [1, ...], with a gradient of zero, and class 1 beyond it, where
    attacks that come from outside begin."""

    smallest = 1

    def __init__(
        self, image: Tensor, threat: ThreatModel, classes: int, before: Callable[[], None] = lambda: None
    ) -> None:
        """`before` each pass is called, and may raise a `Stop`."""
        super().__init__((1, 1, 1), classes)
        self.image, self.threat, self.classes, self.before = image.flatten(1), threat, classes, before

    def feature_map(self, x: Tensor) -> Tensor:
        self.before()
        return x

    def pool(self, feature_map: Tensor) -> Tensor:
        return feature_map.flatten(1)

    def head(self, features: Tensor) -> Tensor:
        beyond = self.threat.distance(features, self.image) > 1.01 * self.threat.eps + 1e-5
        zero = features.sum(1, keepdim=True) * torch.zeros(1, self.classes)
        return zero + torch.eye(self.classes)[beyond.long()]


@dataclass(frozen=True)
class PassCount:
    """Forward and backward passes of an example that stays active to the end; where they are not `whole`, these are
    those made until the counting was stopped. `seconds`: what a pass of them took, the attack's own work."""

    forwards: float
    backwards: float
    seconds: float
    whole: bool


def passes_of(
    attack: Attack, threat: ThreatModel, image: Tensor, classes: int, images: Images | None, sources: int
) -> tuple[int, int]:
    """Forward and backward passes that one example costs if it stays active to the end; `image` [1, C, H, W].

    `sources`: how many other models it may attack."""
    counted = count_passes(attack, threat, image, classes, images, sources)
    return int(counted.forwards), int(counted.backwards)


def count_passes(
    attack: Attack,
    threat: ThreatModel,
    image: Tensor,
    classes: int,
    images: Images | None,
    sources: int,
    *,
    copies: int = 1,
    before: Callable[[], None] = lambda: None,
) -> PassCount:
    """The same, of so many copies of the image in a batch; `before` each pass is called, and may stop the counting by
    raising a `Stop`."""
    classifier = Classifier(_Unbreakable(image, threat, max(classes, 2), before))
    x, y = image.repeat(copies, 1, 1, 1), torch.zeros(copies, dtype=torch.int64)
    untrained = TrainingImages(x[:0], y[:0])  # what an attack trains is none of an example's passes
    resources = Resources(images, Sources((classifier,) * sources) if sources else None, untrained)
    draws = Draws(0, np.arange(copies, dtype=np.int64), x.device)
    search = Search(
        classifier, Judge(classifier, threat), threat, x, y, draws, access=attack.access, resources=resources
    )
    began, whole = time.perf_counter(), True
    try:
        outcome = search.run(attack, attack.restarts)
        forwards, backwards = int(outcome.forwards.sum()) / copies, int(outcome.backwards.sum()) / copies
        if outcome.failures:
            raise UserError(f"the passes of {attack.name} cannot be counted: {next(iter(outcome.failures.values()))}")
    except Stop:
        whole, forwards, backwards = False, classifier.forwards / copies, classifier.backwards / copies
    except UserError:
        raise
    except Exception as error:  # whatever a user's attack does
        raise UserError(f"the passes of {attack.name} cannot be counted: {type(error).__name__}: {error}") from None
    own = (time.perf_counter() - began) / max((forwards + backwards) * copies, 1)
    return PassCount(forwards, backwards, own, whole)
