"""A training that a signal ends after a step, with its state saved."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from signal import SIGTERM

from robench.models.checkpoint import Card
from robench.training import loop
from robench.training.plan import Plan
from robench.utils import signals
from robench.utils.deadline import Deadline, OutOfTime

RESUME = "go on with --resume"


def train(
    plan: Plan,
    out: Path,
    *,
    device: str = "cpu",
    resume: bool = False,
    progress: loop.TrainingProgress | None = None,
    deadline: Deadline | None = None,
    goes_on: str = RESUME,
) -> Card:
    """Trains as `loop.train` does, but for signals: after the step in which one comes it saves the state and raises
    `Stopped`, which tells the step and how the training `goes_on`."""
    deadline, counted = deadline or Deadline(), _Counted(progress or loop.SilentTraining())
    until = UntilSignal(deadline.at, deadline.clock)
    with signals.deferred("step"):
        try:
            card = loop.train(plan, out, device=device, resume=resume, progress=counted, deadline=until)
        except OutOfTime:
            if signals.asked() or not deadline.passed:
                number = signals.asked() or SIGTERM  # or it came to another process of the training
                raise signals.Stopped(number, f"stopped{counted.place}; {goes_on}") from None
            raise
        signals.check(f"stopped; {out} is finished")
    return card


@dataclass(frozen=True)
class UntilSignal(Deadline):
    """A deadline that has passed, too, once a signal asks this process to stop."""

    @property
    def passed(self) -> bool:
        return signals.asked() is not None or super().passed


class _Counted:
    """Passes on what a training's progress is told, and knows the last step."""

    def __init__(self, progress: loop.TrainingProgress) -> None:
        self._progress, self._step, self._steps = progress, 0, 0

    @property
    def place(self) -> str:
        """Nothing in the other processes of a training, whose progress is not told."""
        return f" at step {self._step} of {self._steps}" if self._steps else ""

    def begin(self, name: str, steps: int, done: int) -> None:
        self._step, self._steps = done, steps
        self._progress.begin(name, steps, done)

    def advance(self, step: int, loss: float, passes: int) -> None:
        self._step = step
        self._progress.advance(step, loss, passes)

    def epoch(self, metrics: Mapping[str, float]) -> None:
        self._progress.epoch(metrics)

    def end(self) -> None:
        self._progress.end()
