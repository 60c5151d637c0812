"""A model's answers on the first images of a set, kept beside its rows: what its description does not show, a variable
of the environment or a file that it reads as it runs, shows here.

They are no part of a key, since the last digits of an answer change with threads, devices and batches, and some answer
always lies where it would be rounded both ways; they are compared, with a tolerance, when rows are about to be reused.
"""

import warnings
from dataclasses import replace

import numpy as np
import torch

from robench.evaluation.evaluation import Evaluation
from robench.evaluation.model_checks import answering
from robench.evaluation.target import NotReused
from robench.ledger.store import Ledger

IMAGES = 8

TOLERANCE = 1e-2
"""Of the largest logit: what bfloat16 loses."""

Answers = list[list[float]]


def answers(evaluation: Evaluation) -> Answers | None:
    """The logits [IMAGES, classes]; None of a model whose logits differ from call to call or from batch to batch."""
    if evaluation.behaviour.stochastic or evaluation.behaviour.mixes:
        return None
    classifier = evaluation.judges(evaluation.device)[0].classifier
    with torch.no_grad(), answering(evaluation.subject.name, "the first images"):
        logits = classifier.logits_once(evaluation.split.floats(slice(IMAGES)).to(classifier.device))
    return [[float(f"{value:.6g}") for value in row] for row in logits.float().tolist()]


def agree(first: Answers | None, second: Answers | None) -> bool:
    """Whether they may be one model's; where there are none on one side, nothing speaks against it."""
    if first is None or second is None:
        return True
    a, b = np.array(first), np.array(second)
    if a.shape != b.shape:
        return False
    largest = np.abs(np.concatenate([a[np.isfinite(a)], b[np.isfinite(b)]])).max(initial=0.0)
    return bool(np.isclose(a, b, rtol=0, atol=TOLERANCE * largest, equal_nan=True).all())


def told_apart(evaluation: Evaluation, ledger: Ledger) -> tuple[Evaluation, Answers | None]:
    """The evaluation, and its answers; where the ledger holds rows of its key with other answers it gets a key of its
    own, and that is said."""
    given, cell = answers(evaluation), ledger.find(evaluation.key(None))
    if cell is None or agree(cell.run.get("answers"), given):
        return evaluation, given
    warnings.warn(
        f"{evaluation.subject.name} answers otherwise than when the rows of {ledger.path} were made, and what decides "
        "it cannot be seen in its code and weights (does it read a file or the environment as it runs?); no row is "
        "reused",
        NotReused,
        stacklevel=2,
    )
    return replace(evaluation, subject=evaluation.subject.alone()), given
