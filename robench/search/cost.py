"""How many passes an attack makes, counted on a stand-in model that nothing within the threat fools."""

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
from robench.utils.errors import UserError


class _Unbreakable(Network):
    """Gives class 0 within the threat around `image` [1, ...], with a gradient of zero, and class 1 beyond it, where
    attacks that come from outside begin."""

    smallest = 1

    def __init__(self, image: Tensor, threat: ThreatModel, classes: int) -> None:
        super().__init__((1, 1, 1), classes)
        self.image, self.threat, self.classes = image.flatten(1), threat, classes

    def feature_map(self, x: Tensor) -> Tensor:
        return x

    def pool(self, feature_map: Tensor) -> Tensor:
        return feature_map.flatten(1)

    def head(self, features: Tensor) -> Tensor:
        beyond = self.threat.distance(features, self.image) > 1.01 * self.threat.eps + 1e-5
        zero = features.sum(1, keepdim=True) * torch.zeros(1, self.classes)
        return zero + torch.eye(self.classes)[beyond.long()]


def passes_of(
    attack: Attack, threat: ThreatModel, image: Tensor, classes: int, images: Images | None, sources: int
) -> tuple[int, int]:
    """Forward and backward passes that one example costs if it stays active to the end; `image` [1, C, H, W].

    `sources`: how many other models it may attack."""
    classifier = Classifier(_Unbreakable(image, threat, max(classes, 2)))
    y = torch.zeros(1, dtype=torch.int64)
    untrained = TrainingImages(image[:0], y[:0])  # what an attack trains is none of an example's passes
    resources = Resources(images, Sources((classifier,) * sources) if sources else None, untrained)
    draws = Draws(0, np.zeros(1, dtype=np.int64), image.device)
    search = Search(
        classifier, Judge(classifier, threat), threat, image, y, draws, access=attack.access, resources=resources
    )
    try:
        outcome = search.run(attack, attack.restarts)
    except Exception as error:  # whatever a user's attack does
        raise UserError(f"the passes of {attack.name} cannot be counted: {type(error).__name__}: {error}") from None
    if outcome.failures:
        raise UserError(f"the passes of {attack.name} cannot be counted: {outcome.failures[0]}")
    return int(outcome.forwards), int(outcome.backwards)
