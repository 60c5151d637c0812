"""What a training finds where it is to start: nothing, the state of an interrupted one, or the checkpoint."""

import warnings
from os.path import isfile
from pathlib import Path

from robench.training.distributed import is_main
from robench.utils.errors import Notice, UserError


def state_of(out: Path) -> Path:
    """What holds the state of a training while its checkpoint is yet to be written."""
    return out.parent / f"{out.name}.state"


def check_start(out: Path, *, resume: bool, overwrite: bool) -> None:
    """Raises UserError where a finished or interrupted training would be lost, and says so where there is none to go
    on with."""
    if resume and overwrite:
        raise UserError("expected resume, which goes on, or overwrite, which starts over, got both")
    state = state_of(out)
    finished, interrupted = isfile(out), isfile(state)
    if resume and not (finished or interrupted) and is_main():
        text = f"there is no state {state} to go on with, so the training starts at its first step"
        warnings.warn(text, Notice, stacklevel=3)
    elif finished and not (resume or overwrite):
        raise UserError(f"{out} is there already; --resume takes it where it is this training, --overwrite trains anew")
    elif interrupted and not (resume or overwrite):
        raise UserError(
            f"{state} holds a training that was interrupted; go on with --resume, or start over with --overwrite"
        )
