"""How an attack proceeds: the loss and the accuracy after each of its steps (Dong et al. 2020, first version, D.1)."""

from typing import Any

import torch
from torch import Tensor

from robench.benchmarking.crafting import Examples, NamedAttack, WholeSearch
from robench.evaluation.evaluation import Evaluation
from robench.losses import Loss, cross_entropy
from robench.search.classifier import Output


def measure(evaluation: Evaluation, *, attack: NamedAttack) -> dict[str, Any]:
    """images: how many; loss, accuracy: after 0, 1, ... steps, the mean cross-entropy and the share of right
    predictions, over the points at which the attack asks for a gradient and last over those that it offers.

    An attack that learns a distribution asks at fresh draws from what it has learned so far, so that this is the
    expectation over the distribution. Nobody leaves; images that are misclassified when clean count like the others.
    """
    courses = []
    for examples in Examples.batches(evaluation):
        search = _Watching(evaluation, attack, examples, evaluation.seed)
        search.drive()
        courses.append(torch.stack(search.course) * len(examples.y) / len(evaluation.wanted))
    loss, accuracy = torch.stack(courses).sum(0).T.tolist()
    return {"images": len(evaluation.wanted), "loss": loss, "accuracy": accuracy}


class _Watching(WholeSearch):
    """Keeps the mean loss and the accuracy, [2], at the points of each step."""

    def drive(self, restart: int = 0) -> Tensor:
        self.course: list[Tensor] = []
        offered = super().drive(restart)
        y = self.y.repeat_interleave(offered.shape[1])
        with torch.no_grad():
            self.course.append(_reading(self._classifier.logits(offered.flatten(0, 1)), y))
        return offered

    def value_and_gradient(
        self, points: Tensor, loss: Loss, *beside: Tensor, of: Output = "logits"
    ) -> tuple[Tensor, Tensor]:
        readings: list[Tensor] = []

        def watched(logits: Tensor, y: Tensor, *beside: Tensor) -> Tensor:
            readings.append(_reading(logits.detach(), y))
            return loss(logits, y, *beside)

        found = super().value_and_gradient(points, watched, *beside, of=of)
        self.course.append(torch.stack(readings).mean(0))  # more than one of a stochastic model
        return found


def _reading(logits: Tensor, y: Tensor) -> Tensor:
    return torch.stack([cross_entropy(logits, y).mean(), (logits.argmax(1) == y).float().mean()]).double().cpu()
