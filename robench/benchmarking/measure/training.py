"""What a training logged of itself."""

from typing import Any

from robench.evaluation.evaluation import Evaluation
from robench.utils.errors import UserError


def measure(evaluation: Evaluation) -> dict[str, Any]:
    """`kept`: the metrics of the epoch whose weights were kept, each a mean over its steps; `history`: of every epoch.

    What they are is the defense's to say: `entropy` of ADT_EXP and ADT_EXP-AM is the mean over images of one draw's
    negative log density per dimension, in nats.
    """
    card = evaluation.subject.card
    if card is None:
        raise UserError(f"expected a checkpoint that robench trained, got {evaluation.subject.name}, without a log")
    return {"kept": card.metrics["best"], "history": card.metrics["history"]}
