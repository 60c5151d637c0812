"""The judge: the one place where an adversarial example is found to be one.

A deterministic model is fooled where its prediction is wrong. A stochastic one predicts the class that most of its
`VOTES` draws give (the lowest of equals), and is fooled where that is wrong.
"""

from dataclasses import dataclass, fields
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor

from robench.losses import are_decided, margin
from robench.search.classifier import Classifier, full_precision
from robench.threat import ThreatModel
from robench.utils.global_rng import reseed, undisturbed

BATCH_SIZE = 8
"""Fixed, so that a verdict does not depend on what else is judged: a model may round differently in other batches."""

VOTES = 20
"""Draws of a stochastic model, started from the same seed for each example, whatever else is in its batch."""

ROUNDING = 1e-5
"""A margin below this share of the largest logit is within what float32 kernels disagree by."""


@dataclass(frozen=True)
class Verdicts:
    """What the judge found, per example [B]."""

    valid: Tensor
    """finite, inside the box and the ball, with logits that are (`robench.losses.are_decided`)"""
    fooled: Tensor
    """valid and misclassified"""
    unstable: Tensor
    """fooled by a margin within rounding, or by no more than one vote"""
    prediction: Tensor
    """the class, -1 where the logits decide for none"""
    share_right: Tensor
    """of the draws"""
    margin: Tensor
    """max_{j != y} z_j - z_y, the mean over draws; NaN where the logits are not finite"""
    distance: Tensor
    """from x, in the norm of the threat"""

    @classmethod
    def unknown(cls, count: int, device: torch.device) -> Self:
        """Before anything was judged."""
        kinds = {"prediction": torch.int64, **dict.fromkeys(("share_right", "margin", "distance"), torch.float32)}
        names = [field.name for field in fields(cls)]
        return cls(**{name: torch.zeros(count, dtype=kinds.get(name, torch.bool), device=device) for name in names})

    def take(self, rows: Tensor) -> Self:
        """Those of these rows [n], as tensors of their own."""
        return type(self)(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})

    def copy(self) -> Self:
        return type(self)(**{field.name: getattr(self, field.name).clone() for field in fields(self)})

    def put(self, rows: Tensor, others: Self) -> None:
        """Overwrites these rows [n] by the verdicts of n others."""
        for field in fields(self):
            getattr(self, field.name)[rows] = getattr(others, field.name)


class Judge:
    """Judges candidates by the model as loaded, in float32 with TF32 off: in batches of `BATCH_SIZE`, or one by one
    where it takes `votes` draws."""

    def __init__(self, classifier: Classifier, threat: ThreatModel, votes: int = 1) -> None:
        self.classifier, self.threat, self.votes = classifier, threat, votes

    @torch.no_grad()
    def __call__(self, x_adv: Tensor, x: Tensor, y: Tensor) -> Verdicts:
        """x_adv and x are [B, ...], y [B]; all on the classifier's device."""
        x_adv = x_adv.float()
        with full_precision():
            logits = self._drawn(x_adv) if self.votes > 1 else self._padded(x_adv)[None]
        margins = torch.stack([margin(draw, y) for draw in logits])
        finite = torch.stack([are_decided(draw) for draw in logits]).all(0)
        valid = self.threat.contains(x_adv, x) & finite
        votes = F.one_hot(logits.argmax(2), logits.shape[2]).sum(0)
        prediction = votes.argmax(1).where(finite, -1)
        fooled = valid & (prediction != y)
        if self.votes > 1:
            right = votes.gather(1, y[:, None]).squeeze(1)
            close = votes.amax(1) - right <= 1
        else:
            right = (prediction == y).long()
            close = margins[0] <= ROUNDING * logits[0].nan_to_num(neginf=0.0).abs().amax(1)
        return Verdicts(
            valid=valid,
            fooled=fooled,
            unstable=fooled & close,
            prediction=prediction,
            share_right=(right / self.votes).where(finite, 0.0),
            margin=margins.mean(0).where(finite, torch.nan),
            distance=self.threat.distance(x_adv, x),
        )

    def _padded(self, x: Tensor) -> Tensor:
        """Logits [B, C], each batch filled up with copies of its last image."""
        logits = []
        for part in torch.split(x, BATCH_SIZE):
            padding = part[-1:].expand(BATCH_SIZE - len(part), *part.shape[1:])
            logits.append(self.classifier.logits_once(torch.cat([part, padding]))[: len(part)].float())
        return torch.cat(logits)

    def _drawn(self, x: Tensor) -> Tensor:
        """Logits [votes, B, C] of each image by itself, the draws of each started from the same seed."""
        logits = []
        with undisturbed(x.device):
            for image in torch.split(x, 1):
                reseed(0)
                logits.append(torch.stack([self.classifier.logits_once(image).float() for _ in range(self.votes)]))
        return torch.cat(logits, 1)
