"""What a model does with images: whether it takes them, whether it draws, and whether those of one batch mix."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from robench.data.datasets import Split
from robench.losses import cross_entropy
from robench.models.checkpoint import Card
from robench.search.classifier import Classifier
from robench.utils.errors import NoGradient, UserError
from robench.utils.global_rng import reseed, undisturbed
from robench.utils.memory import ran_out

IMAGES, PASSES = 16, 8
ROUNDING = 1e-4
"""Logits that differ by less than this share of the largest one are the same."""

PATHLESS = ("does not require grad", "appears to not have been used in the graph", "is not implemented")
"""What autograd says where no path leads back, or one leads through what has no derivative."""


@dataclass(frozen=True)
class Behaviour:
    """`stochastic`: its logits differ from call to call. `unseeded`: they do so whatever the global seeds are. `mixes`:
    those of an image depend on the batch it is in."""

    stochastic: bool = False
    unseeded: bool = False
    mixes: bool = False


def check_model(classifier: Classifier, split: Split, name: str, card: Card | None = None) -> int:
    """The number of the model's classes; one that does not give logits for these images, or has fewer classes than
    their labels, is refused. `card`: what its checkpoint says of it."""
    try:
        with torch.no_grad():
            classes = classifier.logits(split.floats(slice(1)).to(classifier.device)).shape[1]
        split.check_labels(classes)
        return classes
    except UserError:
        raise
    except Exception as error:  # whatever the user's model does
        reason = _trained_on(card, split) or (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"model {name} cannot take images of shape {tuple(split.shape)}: {reason}") from None


@contextmanager
def answering(name: str, what: str) -> Iterator[None]:
    """Turns an error of a model where nothing attacks it into a sentence that names it; memory that ran out is raised,
    as what others can do something about."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # whatever the user's model does
        if ran_out(error):
            raise
        reason = (str(error).strip().splitlines() or ["no message"])[0]
        raise UserError(f"model {name} failed on {what}: {type(error).__name__}: {reason}") from None


def _trained_on(card: Card | None, split: Split) -> str:
    """What images a model is made for, where these are others."""
    if card is None or tuple(card.shape) == tuple(split.shape):
        return ""
    return f"it was trained on {card.dataset}, images of shape {tuple(card.shape)}"


@torch.no_grad()
def observe(classifier: Classifier, x: Tensor) -> Behaviour:
    """From a few passes of the first images of x [B, ...]."""
    x = x[:IMAGES]
    with undisturbed(classifier.device):
        reseed(0)
        first, *others = (classifier.logits_once(x) for _ in range(PASSES))
        if any(_differ(first, other) for other in others):
            reseed(0)
            return Behaviour(stochastic=True, unseeded=_differ(first, classifier.logits_once(x)))
        n = len(x)
        among_copies, among_negatives = (classifier.logits_once(torch.cat([x, y]))[:n] for y in (x, 1 - x))
    return Behaviour(mixes=_differ(among_copies, among_negatives))


def differentiable(classifier: Classifier, x: Tensor) -> bool:
    """Whether a path leads from the logits back to the images x [B, ...]; a gradient of zero is one too. What else
    goes wrong on the way is for the attacks to meet."""
    x = x[:1]
    try:
        with undisturbed(classifier.device):
            classifier.logits_and_gradient(x, torch.zeros(len(x), dtype=torch.int64, device=x.device), cross_entropy)
    except (NoGradient, NotImplementedError):
        return False
    except RuntimeError as error:
        return not any(words in str(error) for words in PATHLESS)
    return True


def _differ(first: Tensor, second: Tensor) -> bool:
    return bool((first - second).abs().max() > ROUNDING * first.abs().max())
