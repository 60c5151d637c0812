"""A training's measurements as TensorBoard events, beside what the console shows."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from robench.utils.errors import UserError

if TYPE_CHECKING:
    from robench.training.loop import TrainingProgress


class TensorBoardProgress:
    """Tells another progress everything, and writes the loss of each step and the metrics of each epoch to `folder`."""

    def __init__(self, folder: Path, inner: "TrainingProgress") -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise UserError("TensorBoard is not installed; install robench[tensorboard]") from None
        self._writer = SummaryWriter(str(folder))
        self._inner = inner

    def begin(self, name: str, steps: int, done: int) -> None:
        self._inner.begin(name, steps, done)

    def advance(self, step: int, loss: float, passes: int) -> None:
        self._writer.add_scalar("step/loss", loss, step)
        self._inner.advance(step, loss, passes)

    def epoch(self, metrics: Mapping[str, float]) -> None:
        for name, value in metrics.items():
            if name != "epoch":
                self._writer.add_scalar(f"epoch/{name}", value, int(metrics["epoch"]))
        self._inner.epoch(metrics)

    def end(self) -> None:
        self._writer.close()
        self._inner.end()
