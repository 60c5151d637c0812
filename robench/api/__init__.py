"""robench from Python: one function for each command, with the same words.

What cannot be done as asked raises `robench.utils.errors.UserError` with one sentence: what was expected, what was
given. Lengths (`eps`) are in units of [0, 1] and may be written as "8/255". None is what the checkpoint says, else the
usual for the data set.
"""

from robench.api.benchmarks import bench, reproduce
from robench.api.models import attack, evaluate, verify
from robench.api.results import compare, figure, leaderboard, table
from robench.api.trainings import Trained, train
from robench.evaluation.callable_attack import CallableAttack
from robench.evaluation.target import load_model

__all__ = [
    "CallableAttack",
    "Trained",
    "attack",
    "bench",
    "compare",
    "evaluate",
    "figure",
    "leaderboard",
    "load_model",
    "reproduce",
    "table",
    "train",
    "verify",
]
