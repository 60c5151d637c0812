"""What goes to standard output: results, and nothing else."""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from robench.utils.containment import ForeignExit, contained
from robench.utils.errors import UserError

if TYPE_CHECKING:
    from robench.reports.sheet import Sheet

ENDLESS = 100_000
"""The width of what is no terminal: a file or a pipe."""


def emit(output: "str | Sequence[Sheet]") -> None:
    """Text to standard output as it is; tables as wide as the terminal or, where it is none, as wide as they are."""
    from robench.cli.console import Terminal

    if isinstance(output, str):
        print(output)
        return
    console = Terminal() if sys.stdout.isatty() else Terminal(width=ENDLESS)
    for place, sheet in enumerate(output):
        if place:
            console.print()
        console.print(sheet)


@contextmanager
def only_results() -> Iterator[None]:
    """Standard output is for what a command has found: whatever is printed meanwhile, by other people's code or by a
    process that it starts, goes to standard error; and a request to exit is no end of the command."""
    sys.stdout.flush()
    results, sys.stdout = sys.stdout, sys.stderr
    kept = os.dup(1)
    try:
        os.dup2(2, 1)
        with contained("code that the command ran"):
            yield
    except ForeignExit as error:
        raise UserError(str(error)) from None
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        sys.stdout = results
