"""One executor = one file = one class `Executor`: where the units of an evaluation are run."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from importlib import import_module
from math import inf
from pathlib import Path
from typing import Any, Protocol

from robench.evaluation.evaluation import Evaluation
from robench.evaluation.shards import Unit, Watch
from robench.utils.errors import unknown


class Executor(AbstractContextManager[Any], Protocol):
    """Made of an evaluation and a number of workers; with nothing to run it starts none."""

    threads: int
    """of torch in each worker"""

    def run(self, units: Sequence[Unit], watch: Watch, timeout: float = inf) -> None:
        """Runs every unit. A worker that is lost costs its unfinished batches, which another one runs again.

        Raises UserError where a unit is refused, or cost one worker after the other, and Overdue where one has not
        ended so many seconds after the first began, its worker killed."""


def names() -> list[str]:
    return sorted(path.stem for path in Path(__file__).parent.glob("*.py") if path.stem != "__init__")


def executor(name: str, evaluation: Evaluation, workers: int) -> Executor:
    """The executor of that name."""
    if name not in names():
        raise unknown("executor", name, names())
    made: Executor = import_module(f"robench.evaluation.executors.{name}").Executor(evaluation, workers)
    return made
