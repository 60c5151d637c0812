"""Signs that a model's gradients mislead, from a few probes: evidence for the verdict."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from robench.classifier import Classifier
from robench.code import code_fingerprint
from robench.draws import Draws
from robench.evaluation import Evaluation
from robench.judge import Judge
from robench.losses import cross_entropy
from robench.randomness import reseed, undisturbed
from robench.search import Search
from robench.threat import ThreatModel

EXAMPLES = 100
"""The first so many are probed."""

STEPS = 20

SATURATED = 40.0
"""Logits so far apart that the cross-entropy's slope, about exp(-40), is lost among rounding."""


@dataclass(frozen=True)
class Diagnosis:
    """What was found on the examples, of the first `probed`, that are classified correctly when clean."""

    probed: int
    most: int
    """that bear one and the same label"""
    zero: int
    """whose gradient is zero"""
    nonfinite: int
    """whose gradient is not finite"""
    saturated: int
    """whose softmax is 1 and 0"""
    standing: dict[str, list[bool]]
    """which of them PGD leaves, at the radius `eps`, at `twice` that, at the `extreme` one; and for a stochastic model
    at eps with four times the draws: `more draws`"""
    extreme: str
    """the radius at which every image is within reach of a grey one"""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def key(evaluation: Evaluation) -> dict[str, Any]:
    """What the fingerprint of a diagnosis's cell is made of."""
    probes = {"source": code_fingerprint(Path(__file__)), "seed": evaluation.seed, "protocol": evaluation.protocol}
    probes["precision"] = evaluation.precision
    draws = {"draws": evaluation.draws} if evaluation.behaviour.stochastic else {}
    return {**evaluation.key(None), "attack": {"diagnosis": probes, **draws}}


def diagnose(
    evaluation: Evaluation, seen: Judge, searcher: Classifier, x: Tensor, y: Tensor, ids: np.ndarray
) -> Diagnosis:
    """Probes what the attacker sees, on examples x [B, ...] with labels y [B] that it classifies correctly; `ids` [B]
    are their rows in the data set. `searcher`: the same tuned, for PGD."""
    size = evaluation.batch_size
    with undisturbed(x.device):
        reseed(evaluation.seed)
        parts = [
            _probe(evaluation, seen, searcher, x[part], y[part], ids[part])
            for part in (slice(start, start + size) for start in range(0, len(x), size))
        ]
    return Diagnosis(
        probed=min(EXAMPLES, len(evaluation.wanted)),
        most=int(y.bincount().max()),
        zero=sum(part.zero for part in parts),
        nonfinite=sum(part.nonfinite for part in parts),
        saturated=sum(part.saturated for part in parts),
        standing={name: [stands for part in parts for stands in part.standing[name]] for name in parts[0].standing},
        extreme=parts[0].extreme,
    )


@dataclass(frozen=True)
class _Part:
    """What a batch shows."""

    zero: int
    nonfinite: int
    saturated: int
    standing: dict[str, list[bool]]
    extreme: str


def _probe(evaluation: Evaluation, seen: Judge, searcher: Classifier, x: Tensor, y: Tensor, ids: np.ndarray) -> _Part:
    threat = evaluation.threat
    extreme = 0.5 if threat.norm == "linf" else 0.5 * float(np.sqrt(x[0].numel()))
    radii = {"eps": threat, "twice": ThreatModel.of(threat.norm, max(min(2 * threat.eps, extreme), threat.eps))}
    radii["extreme"] = ThreatModel.of(threat.norm, max(extreme, threat.eps))
    try:
        logits, gradient = seen.classifier.logits_and_gradient(x, y, cross_entropy)
    except torch.OutOfMemoryError:
        raise
    except RuntimeError:  # autograd's, where no path leads from the logits back to the image
        return _Part(len(x), 0, 0, {name: [True] * len(x) for name in radii}, str(radii["extreme"]))
    flat = gradient.flatten(1)
    finite = flat.isfinite().all(1)
    others = logits.scatter(1, y[:, None], -torch.inf).amax(1)
    gap = logits.gather(1, y[:, None]).squeeze(1) - others
    draws = Draws(evaluation.seed, ids, x.device)
    left = {radius: _standing(searcher, seen, radius, x, y, draws) for radius in dict.fromkeys(radii.values())}
    standing = {name: left[radius] for name, radius in radii.items()}
    if seen.votes > 1:
        wider = Classifier(seen.classifier.model, seen.classifier.device, 4 * seen.classifier.draws)
        standing["more draws"] = _standing(wider, seen, threat, x, y, draws)
    return _Part(
        zero=int((finite & (flat == 0).all(1)).sum()),
        nonfinite=int((~finite).sum()),
        saturated=int((gap > SATURATED).sum()),
        standing=standing,
        extreme=str(radii["extreme"]),
    )


def _standing(searcher: Classifier, seen: Judge, threat: ThreatModel, x: Tensor, y: Tensor, draws: Draws) -> list[bool]:
    search = Search(searcher, Judge(seen.classifier, threat, seen.votes), threat, x, y, draws)
    fooled: Sequence[bool] = search.run(_ascend).fooled.tolist()
    return [not fell for fell in fooled]


def _ascend(search: Search) -> None:
    at = search.state(x=search.random_start())
    for _ in search.steps(STEPS):
        gradient = search.gradient(at.x, cross_entropy)
        at.x = search.project(at.x + search.eps / 4 * search.steepest(gradient))
    search.offer(at.x)
