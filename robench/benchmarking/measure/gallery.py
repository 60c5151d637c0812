"""A few test images, what an attack makes of each, and the perturbation between them, magnified."""

import io
from base64 import b64encode
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from robench.benchmarking.crafting import Examples, NamedAttack
from robench.evaluation.evaluation import Evaluation
from robench.search.attack import Attack
from robench.search.judge import Judge
from robench.search.rng import Draws
from robench.search.search import Search
from robench.utils.errors import UserError
from robench.utils.global_rng import reproducible, undisturbed

SIDE = 64
"""Pixels of a picture's longer side at most; a page holds many."""


def measure(evaluation: Evaluation, *, attack: NamedAttack, examples: int = 6) -> dict[str, Any]:
    """Pictures are PNG in base64. `magnified` is the factor by which a perturbation is shown, on grey: the largest
    change of any of them is black or white. An image that is misclassified as it is is not attacked."""
    labels = evaluation.split.labels[evaluation.wanted].cpu().numpy()
    shown = Examples.of(evaluation, _of_all_classes(labels, examples))
    x, y = shown.x, shown.y
    judge, seen = evaluation.judges(x.device)
    clean = judge(x, x, y)
    correct = (clean.prediction == y).nonzero().squeeze(1)
    x_adv = x.clone()
    if len(correct):
        rows = shown.rows[correct.cpu().numpy()]
        x_adv[correct] = _attacked(evaluation, seen, attack, Examples(x[correct], y[correct], rows))
    found = judge(x_adv, x, y)
    perturbation = x_adv - x
    magnified = 0.5 / max(float(perturbation.abs().max()), 1e-6)
    factor = -(-max(x.shape[2:]) // SIDE)
    return {
        "attack": attack.name,
        "magnified": magnified,
        "reduced": factor,
        "examples": [
            {
                "example": int(shown.rows[row]),
                "label": int(y[row]),
                "clean_prediction": int(clean.prediction[row]),
                "adversarial_prediction": int(found.prediction[row]),
                "fooled": bool(found.fooled[row]),
                "distance": float(found.distance[row]),
                "clean": _png(_reduced(x[row], factor)),
                "adversarial": _png(_reduced(x_adv[row], factor)),
                # every so many pixels: a mean over signs would be grey
                "perturbation": _png(0.5 + magnified * perturbation[row, :, ::factor, ::factor]),
            }
            for row in range(len(y))
        ],
    }


def _of_all_classes(labels: np.ndarray, examples: int) -> list[int]:
    """Rows of so many examples at most, the first of their classes, which are spread over all of those there are."""
    classes = np.unique(labels)
    chosen = classes[np.linspace(0, len(classes) - 1, min(examples, len(classes))).round().astype(int)]
    of_each = -(-examples // len(chosen))
    rows = [row for label in chosen for row in np.flatnonzero(labels == label)[:of_each].tolist()]
    return rows[:examples]


def _attacked(evaluation: Evaluation, seen: Judge, attack: Attack, examples: Examples) -> Tensor:
    """Of each example the first candidate that fooled the model, else the nearest to it, [B, ...]."""
    device, resources = examples.x.device, evaluation.resources(examples.x.device)
    task = evaluation.task(resources.kinds)
    if obstacle := attack.obstacle(task):
        raise UserError(f"measurement gallery: {attack.name} cannot be run: {obstacle}")
    attack = attack.fitted(task)
    search = Search(
        seen.classifier,
        seen,
        evaluation.threat,
        examples.x,
        examples.y,
        Draws(evaluation.seed, examples.rows, device),
        access=attack.access,
        resources=resources,
    )
    with undisturbed(device), reproducible(evaluation.seed):
        return search.run(attack, attack.restarts).kept


def _reduced(image: Tensor, factor: int) -> Tensor:
    """The means of blocks of factor x factor pixels of an image [C, H, W]."""
    return torch.nn.functional.avg_pool2d(image[None], factor, ceil_mode=True)[0]


def _png(image: Tensor) -> str:
    """Of an image [C, H, W] with values in [0, 1]; of other than three channels the first is shown, in grey."""
    channels = image if len(image) == 3 else image[:1]
    pixels = (255 * channels.clamp(0, 1)).round().byte().permute(1, 2, 0).squeeze(2).cpu().numpy()
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", optimize=True)
    return b64encode(file.getvalue()).decode()
