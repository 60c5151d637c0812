"""What an evaluation will cost, before it is run: passes counted on a stand-in model, seconds from a short probe."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from robench.battery import Attack
from robench.classifier import Classifier
from robench.draws import Draws
from robench.evaluation import Evaluation, check_model
from robench.ledger import CLEAN, Ledger
from robench.models.network import Network
from robench.search import Search
from robench.verify import Judge


class _Unbreakable(Network):
    """Gives class 0 for every image, with a gradient of zero."""

    smallest = 1

    def __init__(self) -> None:
        super().__init__((1, 1, 1), 2)

    def feature_map(self, x: Tensor) -> Tensor:
        return x

    def pool(self, feature_map: Tensor) -> Tensor:
        return feature_map.flatten(1)

    def head(self, features: Tensor) -> Tensor:
        zero = features.sum(1) * 0
        return torch.stack([zero + 1, zero], 1)


@dataclass(frozen=True)
class Cost:
    """An upper bound: the cost if every example stood to the end."""

    name: str
    examples: int
    """not yet in the ledger"""
    forwards: int
    backwards: int
    seconds: float


def estimate(evaluation: Evaluation, ledger: Ledger, n: int | None = None) -> list[Cost]:
    """The cost of what the ledger lacks, for the clean predictions and each attack."""
    wanted = range(len(evaluation.split) if n is None else min(n, len(evaluation.split)))
    forward, backward = _probe(evaluation)
    costs = []
    for attack in (None, *evaluation.attacks):
        present = ledger.find(evaluation.key(attack))
        missing = len(set(wanted) - (present.present() if present else set()))
        forwards, backwards = _passes(evaluation, attack) if attack else (1, 0)
        seconds = missing * (forwards * forward + backwards * backward)
        name = attack.name if attack else CLEAN
        costs.append(Cost(name, missing, missing * forwards, missing * backwards, seconds))
    return costs


def _passes(evaluation: Evaluation, attack: Attack) -> tuple[int, int]:
    """Passes that one example costs: the attack is run on a model that nothing fools."""
    classifier = Classifier(_Unbreakable())
    x = evaluation.split.floats(slice(1)).cpu()
    draws = Draws(evaluation.seed, np.zeros(1, dtype=np.int64), x.device)
    judge = Judge(classifier, evaluation.threat)
    y = torch.zeros(1, dtype=torch.int64)
    search = Search(classifier, judge, evaluation.threat, x, y, draws, access=attack.access)
    outcome = search.run(partial(attack, images=evaluation.pool(x.device)), attack.restarts)
    return int(outcome.forwards), int(outcome.backwards)


def _probe(evaluation: Evaluation) -> Sequence[float]:
    """Seconds a forward and a backward pass of one image take, from a batch run twice after a warm-up."""
    classifier = Classifier(evaluation.subject.model, evaluation.device)
    check_model(classifier, evaluation.split.take(slice(1)).to(classifier.device), evaluation.subject.name)
    x = evaluation.split.floats(slice(evaluation.batch_size)).to(classifier.device)
    totals = np.full((3, 2), np.nan)
    for repeat in range(3):
        times = [_now(classifier.device)]
        with torch.no_grad():
            classifier.logits(x)
        times.append(_now(classifier.device))
        classifier.logits_and_gradient(x, lambda logits: logits[:, 0])
        times.append(_now(classifier.device))
        totals[repeat] = np.diff(times)
    forward, both = np.minimum(totals[1], totals[2]) / len(x)
    return float(forward), float(max(both - forward, 0.0))


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
