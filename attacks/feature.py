"""FeaAttack: towards the features of another class."""

import torch
import torch.nn.functional as F
from torch import Tensor

from robench.search import Search, sees
from robench.search.classifier import Layer
from robench.search.resources import Images
from robench.threat import Size


@sees("gradients", stops=True, unsaturated=True)
def feature(
    search: Search,
    *,
    images: Images,
    targets: int = 200,
    steps: int = 50,
    step_size: Size = "eps/8",
    layer: Layer = "map",
) -> None:
    """Raises the cosine similarity of x's features with those of images of other classes (Lin et al. 2020).

    One random image at a time, from a uniform start each; an example is done at its first success. The features are
    the last feature map, as the appendix of ADT's first version (C.5) says; both released codes take the pooled ones
    (`layer: pooled`). Targets fill batches: how many an example skips depends on the others, whether it is broken does
    not. It never looks at the logits' gradient, so it passes models that flatten their loss.
    """
    step = search.size(step_size)
    for group in search.groups(targets):
        aims = torch.stack([images.of_another_class(search.y, search.draws, target) for target in group], 1)
        aimed = search.features(aims, layer).flatten(1).view(len(search.x), len(group), -1)
        starts = torch.stack([search.random_start(target) for target in group], 1)
        at = search.state(x=starts, aim=aimed)
        for _ in search.steps(steps):
            at.x = search.project(at.x + step * search.steepest(search.gradient(at.x, similarity, at.aim, of=layer)))
        search.offer(at.x)


def similarity(features: Tensor, y: Tensor, aim: Tensor) -> Tensor:
    """The cosine of features [B, ...] and aim [B, D]."""
    return F.cosine_similarity(features.flatten(1), aim, dim=1)
