"""What goes to standard output: results, and nothing else."""

import io
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING

from robench.utils.containment import ForeignExit, contained
from robench.utils.errors import Notice, UserError
from robench.utils.files import replacing

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
def written_to(path: Path | None) -> Iterator[None]:
    """What is printed meanwhile goes to a file, if one is named, also where the command then fails."""
    if path is None:
        yield
        return
    if path.is_dir() or not path.parent.is_dir():
        raise UserError(f"expected a file in a folder that is there, got --output {path}")
    text = io.StringIO()
    try:
        with redirect_stdout(text):
            yield
    finally:
        if text.getvalue():
            with replacing(path) as temporary:
                temporary.write_text(text.getvalue())


@contextmanager
def silenced(quiet: bool) -> Iterator[None]:
    """If so, nothing is told of how it goes, nor of what is done otherwise than asked."""
    if not quiet:
        yield
        return
    from robench.cli.console import stderr

    before, stderr.quiet = stderr.quiet, True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Notice)
            yield
    finally:
        stderr.quiet = before


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
