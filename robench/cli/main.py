"""The command line: parse, call one function, print. Heavy imports wait inside the commands."""

import inspect
import sys
import traceback
import warnings
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, TextIO

import typer

from robench.cli import benchmark, evaluate, info, results, train
from robench.cli.output import silenced, written_to
from robench.utils import signals
from robench.utils.errors import Notice, UserError
from robench.utils.text import cleaned, shortly

COMMANDS: dict[str, Callable[..., None]] = {
    "bench": benchmark.bench,
    "reproduce": benchmark.reproduce,
    "train": train.train,
    "eval": evaluate.evaluate,
    "verify": evaluate.verify,
    "leaderboard": results.leaderboard,
    "compare": results.compare,
    "table": results.table,
    "figure": results.figure,
    "list": info.list_,
    "show": info.show,
    "doctor": info.doctor,
}
"""In the order of `robench --help`."""


def _option(name: str, default: Any, annotation: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


SHARED = (
    _option("output", None, Annotated[Path | None, typer.Option(help="A file for what goes to standard output.")]),
    _option("quiet", False, Annotated[bool, typer.Option("--quiet", "-q", help="Tell results and errors alone.")]),
    _option("verbose", False, Annotated[bool, typer.Option("--verbose", "-v", help="Tell where an error arose.")]),
)
"""Options of every command; the first is for those that have a format."""

app = typer.Typer(
    name="robench",
    help="Train, attack, verify and rank adversarially robust image classifiers.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


def _runnable(command: Callable[..., None]) -> Callable[..., None]:
    """The command with the options that all have. A signal ends it in one sentence, with the exit code that a shell
    gives for it."""
    own = inspect.signature(command)
    shared = SHARED if "format" in own.parameters else SHARED[1:]

    @wraps(command)
    def run(output: Path | None = None, quiet: bool = False, verbose: bool = False, **options: Any) -> None:
        try:
            with signals.raised(), written_to(output), silenced(quiet):
                command(**options)
        except KeyboardInterrupt as interrupt:
            print(f"robench: {cleaned(str(interrupt)) or 'stopped'}", file=sys.stderr)
            raise typer.Exit(128 + signals.number_of(interrupt)) from None
        except UserError:
            if verbose:
                traceback.print_exc()
            raise

    vars(run)["__signature__"] = own.replace(parameters=[*own.parameters.values(), *shared])
    return run


for name, command in COMMANDS.items():
    app.command(name)(_runnable(command))


def _print_version(asked: bool) -> None:
    if asked:
        import robench

        print(f"robench {robench.__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Options of the program itself."""


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    ours = category.__module__.startswith("robench")
    text = f"robench: {cleaned(str(message))}\n"
    sys.stderr.write(text if ours else warnings.formatwarning(message, category, filename, lineno))


def main() -> None:
    """The entry point: a user's mistake, or a file that the system refuses, is one sentence and exit code 2, never a
    traceback, and a warning of ours one line."""
    warnings.showwarning = _show_warning
    warnings.simplefilter("always", Notice)
    try:
        if word := next((word for word in sys.argv if "\0" in word), ""):
            raise UserError(f"expected words without a zero byte, got {shortly(word)}")
        app()
    except UserError as error:
        _refuse(str(error))
    except OSError as error:
        _refuse(f"{shortly(str(error.filename))}: {error.strerror}" if error.filename else str(error))


def _refuse(sentence: str) -> None:
    print(f"robench: {cleaned(sentence)}", file=sys.stderr)
    sys.exit(2)
