"""Runs units as tasks of Ray, which owns scheduling and retries: on this machine, or on the cluster at RAY_ADDRESS.

Every machine of a cluster must have robench, and the folders of results and data at the same paths.
"""

import os
from collections.abc import Sequence
from functools import cached_property
from math import inf
from typing import Any

from robench.evaluation.evaluation import Evaluation
from robench.evaluation.shards import Unit, Watch, lost
from robench.evaluation.worker import Prepared
from robench.utils import signals
from robench.utils.errors import UserError
from robench.utils.serialize import pack, unpack

INTERVAL = 0.5
"""Seconds between two looks at whether a signal came."""

RETRIES = 2
"""How often Ray runs a unit again whose worker died."""


class Executor:
    """See `robench.evaluation.executors.Executor`. A unit is a task, on one core or GPU, and `workers` bound how many
    run at once; Ray is started with the first one."""

    threads = 1

    def __init__(self, evaluation: Evaluation, workers: int) -> None:
        try:
            import ray
        except ImportError:
            raise UserError("the executor ray needs the extra robench[ray]; pip install 'robench[ray]'") from None
        self._ray, self._workers, self._name = ray, workers, evaluation.subject.name
        self._parcel, self._gpus = pack(evaluation, self._name), int(evaluation.device == "cuda")
        self._ours = False

    def __enter__(self) -> "Executor":
        return self

    def __exit__(self, *_: Any) -> None:
        if self._ours:
            self._ray.shutdown()

    @cached_property
    def _stored(self) -> Any:
        """Where the tasks find the evaluation."""
        if not self._ray.is_initialized():
            os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would report over the network
            here = {} if "RAY_ADDRESS" in os.environ else {"num_cpus": self._workers, "include_dashboard": False}
            self._ray.init(log_to_driver=False, logging_level="error", **here)
            self._ours = True
        return self._ray.put(self._parcel)

    def run(self, units: Sequence[Unit], watch: Watch, timeout: float = inf) -> None:
        assert timeout == inf  # `Scale` gives none to what it cannot kill
        task = self._ray.remote(num_cpus=1, num_gpus=self._gpus, max_retries=RETRIES)(_do)
        waiting, running = list(reversed(units)), dict[Any, Unit]()
        while (waiting or running) and not signals.asked():  # then Ray ends the tasks with this process's part in it
            while waiting and len(running) < self._workers:
                unit = waiting.pop()
                running[task.remote([self._stored], unit, self._name)] = unit
            for done in self._ray.wait(list(running), timeout=INTERVAL)[0]:
                watch.advance(*self._result(done, running.pop(done)))

    def _result(self, done: Any, unit: Unit) -> tuple[int, int]:
        try:
            told: tuple[int, int] = self._ray.get(done)
        except self._ray.exceptions.RayTaskError as error:
            raise error.cause or error from None
        except (self._ray.exceptions.WorkerCrashedError, self._ray.exceptions.OutOfMemoryError):
            raise lost(unit, RETRIES + 1) from None
        return told


class _Counting:
    """Adds up what a unit's watch is told."""

    examples = robust = 0

    def active(self, examples: int, passes: int, done: float) -> None: ...

    def advance(self, examples: int, robust: int) -> None:
        self.examples += examples
        self.robust += robust


_prepared: dict[str, Prepared] = {}
"""The evaluation that this worker ran last, by the name of its parcel."""


def _do(stored: list[Any], unit: Unit, name: str) -> tuple[int, int]:
    """Does a unit in a worker of Ray; gives how many examples it ran and how many of them are robust."""
    import ray

    (parcel,) = stored
    if parcel.hex() not in _prepared:
        _prepared.clear()
        _prepared[parcel.hex()] = Prepared(unpack(ray.get(parcel), name))
    counting = _Counting()
    _prepared[parcel.hex()].do(unit, counting)
    return counting.examples, counting.robust
