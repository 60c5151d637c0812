"""The device of a training, and the processes that share it, by Hugging Face's accelerate."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState, PartialState
from accelerate.utils import InitProcessGroupKwargs

from robench.training.distributed import TIMEOUT


@contextmanager
def accelerated(*, cpu: bool, mixed_precision: str) -> Iterator[Accelerator]:
    """An accelerator of this training alone. Their state is global: the caller's own is put back after it."""
    states: list[dict[str, Any]] = [kind._shared_state for kind in (PartialState, AcceleratorState, GradientState)]
    before = [dict(state) for state in states]
    for state in states:
        state.clear()
    try:
        yield Accelerator(
            cpu=cpu, mixed_precision=mixed_precision, kwargs_handlers=[InitProcessGroupKwargs(timeout=TIMEOUT)]
        )
    finally:
        for state, kept in zip(states, before, strict=True):
            state.clear()
            state.update(kept)
