"""What an evaluation will cost, before it is run: passes counted on a stand-in model, seconds from a short probe."""

import time
from dataclasses import dataclass

import numpy as np
import torch

from robench.evaluation.evaluation import Evaluation
from robench.ledger.schema import CLEAN
from robench.ledger.store import Ledger
from robench.losses import cross_entropy


@dataclass(frozen=True)
class Cost:
    """An upper bound: the cost if every example stayed active to the end."""

    name: str
    examples: int
    """not yet in the ledger"""
    forwards: int
    backwards: int
    seconds: float


def estimate(evaluation: Evaluation, ledger: Ledger) -> list[Cost]:
    """The cost of what the ledger lacks, for the clean predictions and each attack."""
    forward, backward = probe(evaluation)
    costs = []
    for attack in (None, *evaluation.attacks):
        present = ledger.find(evaluation.key(attack))
        missing = present.lacking(evaluation.wanted) if present else len(evaluation.wanted)
        forwards, backwards = evaluation.passes(attack) if attack else (1, 0)
        seconds = missing * (forwards * forward + backwards * backward)
        name = attack.name if attack else CLEAN
        costs.append(Cost(name, missing, missing * forwards, missing * backwards, seconds))
    return costs


def probe(evaluation: Evaluation) -> tuple[float, float]:
    """Seconds a forward and a backward pass of one image take, from a batch run twice after a warm-up; none for a
    backward pass of a model that gives no gradients."""
    seen = evaluation.judges(evaluation.device)[1]
    classifier = evaluation.searcher(seen, evaluation.tune(seen, evaluation.precision))
    x = evaluation.split.floats(slice(evaluation.batch_size)).to(classifier.device)
    y = evaluation.split.labels[: len(x)].to(classifier.device)
    totals = np.full((3, 2), np.nan)
    for repeat in range(3):
        times = [_now(classifier.device)]
        with torch.no_grad():
            classifier.logits(x)
        times.append(_now(classifier.device))
        if evaluation.subject.gives == "gradients":
            classifier.logits_and_gradient(x, y, cross_entropy)
        times.append(_now(classifier.device))
        totals[repeat] = np.diff(times)
    forward, both = np.minimum(totals[1], totals[2]) / len(x)
    return float(forward), float(max(both - forward, 0.0)) if evaluation.subject.gives == "gradients" else 0.0


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
