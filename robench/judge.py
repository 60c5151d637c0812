"""The judge: the one place where an adversarial example is found to be one."""

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from robench.classifier import Classifier, full_precision
from robench.losses import margin
from robench.threat import ThreatModel

BATCH_SIZE = 16
"""Fixed, so that a verdict does not depend on what else is judged: a model may round differently in other batches."""

ROUNDING = 1e-5
"""A margin below this share of the largest logit is within what float32 kernels disagree by."""


@dataclass(frozen=True)
class Verdicts:
    """What the judge found, per example [B]."""

    valid: Tensor
    """finite, inside the box and the ball, with finite logits"""
    fooled: Tensor
    """valid and misclassified"""
    unstable: Tensor
    """fooled by a margin within rounding"""
    prediction: Tensor
    """the class, -1 where the logits are not finite"""
    margin: Tensor
    """max_{j != y} z_j - z_y; NaN where the logits are not finite"""
    distance: Tensor
    """from x, in the norm of the threat"""


class Judge:
    """Judges candidates by the model as loaded, in float32 with TF32 off, in batches of `BATCH_SIZE`."""

    def __init__(self, classifier: Classifier, threat: ThreatModel) -> None:
        self._classifier = classifier
        self._threat = threat

    def __call__(self, x_adv: Tensor, x: Tensor, y: Tensor) -> Verdicts:
        """x_adv and x are [B, ...], y [B]; all on the classifier's device."""
        parts = [
            self._judge(*(part[start : start + BATCH_SIZE] for part in (x_adv, x, y)))
            for start in range(0, len(y), BATCH_SIZE)
        ]
        return Verdicts(**{f.name: torch.cat([getattr(part, f.name) for part in parts]) for f in fields(Verdicts)})

    @torch.no_grad()
    def _judge(self, x_adv: Tensor, x: Tensor, y: Tensor) -> Verdicts:
        n = len(y)
        padding = x_adv[-1:].expand(BATCH_SIZE - n, *x_adv.shape[1:])
        with full_precision():
            logits = self._classifier.logits(torch.cat([x_adv.float(), padding.float()]))[:n].float()
        margins = margin(logits, y)
        finite = logits.isfinite().all(1)
        valid = self._threat.contains(x_adv, x) & finite
        prediction = logits.argmax(1).where(finite, -1)
        fooled = valid & (prediction != y)
        return Verdicts(
            valid=valid,
            fooled=fooled,
            unstable=fooled & (margins <= ROUNDING * logits.abs().amax(1)),
            prediction=prediction,
            margin=margins.where(finite, torch.nan),
            distance=self._threat.distance(x_adv, x),
        )
