"""Runs units in this process, one after the other."""

from collections.abc import Sequence
from functools import cached_property
from math import inf
from typing import Any

import torch

from robench.evaluation.evaluation import Evaluation
from robench.evaluation.shards import Unit, Watch
from robench.evaluation.worker import Prepared
from robench.utils import signals
from robench.utils.errors import UserError


class Executor:
    """See `robench.evaluation.executors.Executor`."""

    def __init__(self, evaluation: Evaluation, workers: int) -> None:
        if workers > 1:
            raise UserError(f"expected 1 worker for the executor serial, got {workers}; processes takes more")
        self._evaluation, self.threads = evaluation, torch.get_num_threads()

    @cached_property
    def _prepared(self) -> Prepared:
        return Prepared(self._evaluation)

    def __enter__(self) -> "Executor":
        return self

    def __exit__(self, *_: Any) -> None: ...

    def run(self, units: Sequence[Unit], watch: Watch, timeout: float = inf) -> None:
        assert timeout == inf  # `Scale` gives none to what it cannot kill
        for unit in units:
            self._prepared.do(unit, _Stoppable(watch))


class _Stoppable:
    """Passes on what a watch is told, and stops after the batch in which a signal came."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch

    def active(self, examples: int, passes: int, done: float) -> None:
        self._watch.active(examples, passes, done)

    def advance(self, examples: int, robust: int) -> None:
        self._watch.advance(examples, robust)
        signals.check()
