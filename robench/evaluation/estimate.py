"""What an evaluation will cost, before it is run: passes counted on a stand-in model, seconds from a short probe."""

import time
from dataclasses import dataclass

import numpy as np
import torch

from robench.evaluation.evaluation import Evaluation
from robench.ledger.schema import CLEAN
from robench.ledger.store import Ledger
from robench.losses import cross_entropy
from robench.search.attack import Attack
from robench.search.classifier import Classifier
from robench.search.cost import PassCount
from robench.utils.deadline import Deadline

SECONDS = 7.0
"""In which the passes of all attacks are counted, and their own work is timed."""

FEW, PATIENCE = 4, 0.5
"""Images that are timed first, and seconds that three rounds of more of them may take."""


@dataclass(frozen=True)
class Cost:
    """An upper bound: the cost if every example stayed active to the end. Where it is not `whole`, it is known only to
    be more than this: the passes are too many to be counted beforehand."""

    name: str
    examples: int
    """not yet in the ledger"""
    forwards: int
    backwards: int
    seconds: float
    whole: bool = True


def estimate(evaluation: Evaluation, ledger: Ledger, seconds: float = SECONDS) -> list[Cost]:
    """The cost of what the ledger lacks, for the clean predictions and each attack, found in about so many seconds."""
    forward, backward = probe(evaluation)
    until = time.monotonic() + seconds
    costs = []
    for position, attack in enumerate((None, *evaluation.attacks)):
        present = ledger.find(evaluation.key(attack))
        missing = present.lacking(evaluation.wanted) if present else len(evaluation.wanted)
        share = (until - time.monotonic()) / (len(evaluation.attacks) + 1 - position)
        found = _counted(evaluation, attack, share) if attack else PassCount(1, 0, 0.0, whole=True)
        own = (found.forwards + found.backwards) * found.seconds
        costs.append(
            Cost(
                attack.name if attack else CLEAN,
                missing,
                round(missing * found.forwards),
                round(missing * found.backwards),
                missing * (found.forwards * forward + found.backwards * backward + own),
                found.whole or not missing,
            )
        )
    return costs


def _counted(evaluation: Evaluation, attack: Attack, seconds: float) -> PassCount:
    """The passes of an example, and what an attack's own work takes a pass where it works on a whole batch. Nothing is
    known of a library for which a process of its own would have to be started."""
    if attack.declaration.one_at_a_time:
        return PassCount(0, 0, 0.0, whole=False)
    size = min(evaluation.batch_size, len(evaluation.wanted))
    batch = evaluation.count_passes(attack, size, Deadline(time.monotonic() + seconds / 3).check)
    if batch.whole:
        return batch
    one = evaluation.count_passes(attack, before=Deadline(time.monotonic() + 2 * seconds / 3).check)
    return PassCount(one.forwards, one.backwards, batch.seconds, one.whole)


def probe(evaluation: Evaluation) -> tuple[float, float]:
    """Seconds a forward and a backward pass of one image take, of as many at a time as a batch has or as are timed
    within `PATIENCE`; none for a backward pass of a model that gives no gradients."""
    seen = evaluation.judges(evaluation.device)[1]
    classifier = evaluation.searcher(seen, evaluation.tune(seen, evaluation.precision))
    whole = min(evaluation.batch_size, len(evaluation.split))
    size = min(FEW, whole)
    while True:
        began = time.monotonic()
        found = _timed(evaluation, classifier, size)
        if size == whole or 4 * (time.monotonic() - began) > PATIENCE:
            return found
        size = min(4 * size, whole)


def _timed(evaluation: Evaluation, classifier: Classifier, size: int) -> tuple[float, float]:
    """The same, of the first `size` images together, the better of two times after a warm-up."""
    x = evaluation.split.floats(slice(size)).to(classifier.device)
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
