"""TensorBoard events hold what the metrics file holds."""

from collections.abc import Callable
from pathlib import Path

import pytest

from robench.training import epoch_log
from tests.helpers import Ran


def test_a_training_is_logged(in_tmp: Path, robench: Callable[..., Ran]) -> None:
    reading = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    options = ("--defense", "pgd_at", "--epochs", 2, "--limit", 200, "--out", "m.pt", "--tensorboard", "events")
    assert robench("train", *options).code == 0
    events = reading.EventAccumulator("events")
    events.Reload()
    written = {scalar.step: scalar.value for scalar in events.Scalars("epoch/loss")}
    assert written == pytest.approx({row["epoch"]: row["loss"] for row in epoch_log.read(Path("m.pt.metrics.csv"))})
    assert len(events.Scalars("step/loss")) > 2
