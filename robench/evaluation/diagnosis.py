"""Signs that a model's gradients mislead, from a few probes: evidence for the verdict."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from robench.evaluation.evaluation import Evaluation
from robench.losses import cross_entropy
from robench.search.classifier import Classifier
from robench.search.judge import Judge
from robench.search.outcome import Outcome
from robench.search.rng import Draws
from robench.search.search import Search
from robench.threat import ThreatModel
from robench.utils.code import code_fingerprint
from robench.utils.errors import NoGradient, UserError
from robench.utils.global_rng import reseed, undisturbed
from robench.utils.memory import ran_out

EXAMPLES = 100
"""The first so many are probed."""

STEPS = 20

SATURATED = 40.0
"""Logits so far apart that the cross-entropy's slope, about exp(-40), is lost among rounding."""


INSIDE = 1e-5
"""How far into the box a pixel that is 0 or 1 is moved to see whether the face has hidden its gradient."""


@dataclass(frozen=True)
class Diagnosis:
    """What was found on the examples `ids`, of the first `probed`, that are classified correctly when clean. Lists are
    in their order."""

    probed: int
    most: int
    """that bear one and the same label"""
    ids: list[int]
    zero: list[bool]
    """the gradient is zero"""
    nonfinite: list[bool]
    """the gradient is not finite"""
    saturated: list[bool]
    """the softmax is 1 and 0"""
    standing: dict[str, list[bool]]
    """whether PGD leaves it, at the radius `eps`, at `twice` that, at the `extreme` one; and for a stochastic model at
    eps with four times the draws: `more draws`"""
    broken: list[bool]
    """PGD at eps found what breaks the model as it is deployed"""
    extreme: str
    """the radius at which every image is within reach of a grey one"""
    faces: float | None
    """of the pixels at 0 and 1, the share without a gradient that have one just inside the box; None where there are no
    such pixels, or the model cannot be differentiated by itself"""
    failed: str | None = None
    """the error that ended the diagnosis; then nothing was probed"""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def key(evaluation: Evaluation) -> dict[str, Any]:
    """What the fingerprint of a diagnosis's cell is made of."""
    probes = {"source": code_fingerprint(Path(__file__)), "seed": evaluation.seed, "protocol": evaluation.protocol}
    probes["precision"] = evaluation.precision
    draws = {"draws": evaluation.draws} if evaluation.behaviour.stochastic else {}
    return {**evaluation.key(None), "attack": {"diagnosis": probes, **draws}}


def diagnose(
    evaluation: Evaluation, deployed: Judge, seen: Judge, searcher: Classifier, x: Tensor, y: Tensor, ids: np.ndarray
) -> Diagnosis:
    """Probes what the attacker sees, on examples x [B, ...] with labels y [B] that it classifies correctly; `ids` [B]
    are their rows in the data set. `deployed` judges what breaks, `searcher` is what the attacker sees, tuned, for PGD.

    An error of the model is what is found; memory that ran out is raised, as what others can do something about.
    """
    size = evaluation.batch_size
    try:
        with undisturbed(x.device):
            reseed(evaluation.seed)
            parts = [
                _probe(evaluation, deployed, seen, searcher, x[part], y[part], ids[part])
                for part in (slice(start, start + size) for start in range(0, len(x), size))
            ]
    except UserError:
        raise
    except Exception as error:  # whatever the model does wrong, it is no sign that its gradient is zero
        if ran_out(error):
            raise
        lines = str(error).strip().splitlines() or ["no message"]
        return failed(f"{type(error).__name__}: {lines[0]}")

    def together(name: str) -> list[bool]:
        return [value for part in parts for value in getattr(part, name)]

    at_faces, hidden = (sum(each) for each in zip(*(part.faces for part in parts), strict=True))
    return Diagnosis(
        probed=min(EXAMPLES, len(evaluation.wanted)),
        most=int(y.bincount().max()),
        ids=ids.tolist(),
        zero=together("zero"),
        nonfinite=together("nonfinite"),
        saturated=together("saturated"),
        standing={name: [left for part in parts for left in part.standing[name]] for name in parts[0].standing},
        broken=together("broken"),
        extreme=parts[0].extreme,
        faces=hidden / at_faces if at_faces else None,
    )


def failed(why: str) -> Diagnosis:
    """One that ended before anything was found."""
    nothing: dict[str, list[bool]] = {name: [] for name in ("eps", "twice", "extreme")}
    return Diagnosis(0, 0, [], [], [], [], nothing, [], "", None, failed=why)


@dataclass(frozen=True)
class _Part:
    """What a batch shows; `faces` are the numbers of pixels at 0 and 1, and of those among them whose gradient is
    hidden."""

    zero: list[bool]
    nonfinite: list[bool]
    saturated: list[bool]
    standing: dict[str, list[bool]]
    broken: list[bool]
    extreme: str
    faces: tuple[int, int]


def _probe(
    evaluation: Evaluation, deployed: Judge, seen: Judge, searcher: Classifier, x: Tensor, y: Tensor, ids: np.ndarray
) -> _Part:
    threat = evaluation.threat
    extreme = 0.5 if threat.norm == "linf" else 0.5 * float(np.sqrt(x[0].numel()))
    radii = {"eps": threat, "twice": ThreatModel.of(threat.norm, max(min(2 * threat.eps, extreme), threat.eps))}
    radii["extreme"] = ThreatModel.of(threat.norm, max(extreme, threat.eps))
    try:
        logits, gradient = seen.classifier.logits_and_gradient(x, y, cross_entropy)
    except Exception as error:
        if not _without_a_path(error):
            raise
        no, yes = [False] * len(x), [True] * len(x)
        return _Part(yes, no, no, dict.fromkeys(radii, yes), no, str(radii["extreme"]), (0, 0))
    flat = gradient.flatten(1)
    finite = flat.isfinite().all(1)
    others = logits.scatter(1, y[:, None], -torch.inf).amax(1)
    gap = logits.gather(1, y[:, None]).squeeze(1) - others
    draws = Draws(evaluation.seed, ids, x.device)
    left = {radius: _ascended(searcher, seen, radius, x, y, draws) for radius in dict.fromkeys(radii.values())}
    standing = {name: _robust(left[radius]) for name, radius in radii.items()}
    at_eps = [left[threat]]
    if seen.votes > 1:
        wider = Classifier(seen.classifier.model, seen.classifier.device, 4 * seen.classifier.draws)
        at_eps.append(_ascended(wider, seen, threat, x, y, draws))
        standing["more draws"] = _robust(at_eps[-1])
    broken = [found.fooled if deployed is seen else deployed(found.kept, x, y).fooled for found in at_eps]
    return _Part(
        zero=(finite & (flat == 0).all(1)).tolist(),
        nonfinite=(~finite).tolist(),
        saturated=(gap > SATURATED).tolist(),
        standing=standing,
        broken=torch.stack(broken).any(0).tolist(),
        extreme=str(radii["extreme"]),
        faces=_faces(seen.classifier, x, y),
    )


def _without_a_path(error: Exception) -> bool:
    """Whether an error says that no path leads from the logits back to the image."""
    autograds = ("does not require grad", "not have been used in the graph")
    return isinstance(error, NoGradient) or (
        isinstance(error, RuntimeError) and any(words in str(error) for words in autograds)
    )


def _faces(classifier: Classifier, x: Tensor, y: Tensor) -> tuple[int, int]:
    """How many pixels are 0 or 1, and how many of them have no gradient but have one just inside the box: as the model
    itself gives it, whatever the classifier does about that. None are counted where the model cannot be so asked."""
    parts = [torch.split(rows, classifier.points or len(x)) for rows in (x, y)]
    try:
        found = [_faces_once(classifier.model, *part) for part in zip(*parts, strict=True)]
    except Exception as error:  # a model that only the classifier knows how to differentiate
        if ran_out(error):
            raise
        return 0, 0
    at_faces, hidden = (sum(each) for each in zip(*found, strict=True))
    return at_faces, hidden


def _faces_once(model: nn.Module, x: Tensor, y: Tensor) -> tuple[int, int]:
    face = (x <= 0) | (x >= 1)
    at, inside = (_own_gradient(model, points, y) for points in (x, x.clamp(INSIDE, 1 - INSIDE)))
    return int(face.sum()), int((face & (at == 0) & (inside != 0)).sum())


def _own_gradient(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    with torch.enable_grad():
        x = x.detach().clone().requires_grad_()
        (gradient,) = torch.autograd.grad(cross_entropy(model(x.clone()), y).sum(), x)
    return gradient


def _ascended(searcher: Classifier, seen: Judge, threat: ThreatModel, x: Tensor, y: Tensor, draws: Draws) -> Outcome:
    return Search(searcher, Judge(seen.classifier, threat, seen.votes), threat, x, y, draws).run(_ascend)


def _robust(found: Outcome) -> list[bool]:
    stands: list[bool] = (~found.fooled).tolist()
    return stands


def _ascend(search: Search) -> None:
    at = search.state(x=search.random_start())
    for _ in search.steps(STEPS):
        gradient = search.gradient(at.x, cross_entropy)
        at.x = search.project(at.x + search.eps / 4 * search.steepest(gradient))
    search.offer(at.x)
