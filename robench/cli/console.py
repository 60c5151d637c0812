"""What a person sees while robench works: on standard error, so that standard output holds results alone."""

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from rich.console import Console, ConsoleOptions, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.segment import Segment
from rich.table import Column
from rich.text import Text

from robench.ledger.summary import Summary
from robench.reports import report
from robench.reports.sheet import Sheet
from robench.utils.text import cleaned


class Terminal(Console):
    """A console on which text of others is text: nothing in it colours, moves the cursor or stands for an emoji."""

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        """Each line cleaned, as rich renders it."""
        return super().render_str("\n".join(map(cleaned, text.split("\n"))), **options)


def progress_terminal() -> Terminal:
    """Where a person is told how it goes: in lines that end between words or, where it is no terminal, never."""
    return Terminal(stderr=True, highlight=False, soft_wrap=not sys.stderr.isatty())


stderr = progress_terminal()


@contextmanager
def working(what: str) -> Iterator[None]:
    """Shows on a terminal that something is being done which has no bar."""
    if not stderr.is_terminal or stderr.quiet:
        yield
        return
    with stderr.status(Text(what)):
        yield


class _Room:
    """What the screen has room for: the last lines, above the bars."""

    def __init__(self, tables: Sequence[RenderableType], below: int) -> None:
        self._tables, self._below = tables, below

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Segment]:
        room = max(console.height - self._below, 0)
        lines = console.render_lines(Group(*self._tables), options, pad=False)
        for line in lines[max(len(lines) - room, 0) :]:
            yield from line
            yield Segment.line()


DAY = 86_400.0
"""Seconds of a run from which its time left is told: all of it."""


class EvaluationConsole:
    """What the attacks so far have found, and a line for the one that runs: what is done of its examples, an active one
    counting by its steps; time left, how many are active in this batch, accuracy so far and passes a second."""

    def __init__(self, whole: Progress | None = None) -> None:
        """`whole`: the bar of the run that this is a part of."""
        self._whole, self._found = whole, list[RenderableType]()

    def begin(self, attack: str, examples: int) -> None:
        self._bar = _bar()
        self._task = self._bar.add_task(f"{cleaned(attack):<12}", total=examples, detail="")
        self._name, self._started, self._first_pass = attack, time.monotonic(), None
        self._total, self._done, self._robust, self._furthest = examples, 0, 0, 0.0
        self._rate = self._so_far = ""
        self._live = Live(_shown(self._found, self._bar, self._whole), console=stderr, transient=True)
        if stderr.is_terminal and not stderr.quiet:
            self._live.start()

    _first_pass: int | None

    def active(self, examples: int, passes: int, done: float) -> None:
        if self._first_pass is None:
            self._first_pass = passes
        seconds = max(time.monotonic() - self._started, 1e-9)
        if passes > self._first_pass:
            self._rate = f", {(passes - self._first_pass) / seconds:,.0f} passes/s"
        self._furthest = max(self._furthest, min(self._done + done, self._total))
        detail = f"{self._so_far}active {examples}{self._rate}"
        self._bar.update(self._task, completed=self._furthest, detail=detail)

    def advance(self, examples: int, robust: int) -> None:
        self._done += examples
        self._robust += robust
        self._furthest = self._done
        self._so_far = f"{self._robust} of {self._done} robust, "
        self._bar.update(self._task, completed=self._done, detail=f"{self._so_far.rstrip(', ')}{self._rate}")

    def end(self) -> None:
        self._live.stop()
        if not stderr.is_terminal and self._done:
            stderr.print(f"{self._name:<12} {self._so_far.rstrip(', ')}{self._rate}")

    def show(self, summary: Summary) -> None:
        sheets = report.evaluation(summary, "table")
        self._found = [replace(sheet, notes=()) for sheet in sheets if isinstance(sheet, Sheet)]


class TrainingConsole:
    """A line for a training: steps, time left, loss and passes a second; below it the accuracies on the images held
    out."""

    def __init__(self, whole: Progress | None = None) -> None:
        """`whole`: the bar of the run that this is a part of."""
        self._whole = whole

    def begin(self, name: str, steps: int, done: int) -> None:
        self._bar, self._validation = _bar(), ""
        self._task = self._bar.add_task(f"{cleaned(name):<12}", total=steps, completed=done, detail="")
        self._name, self._started = name, time.monotonic()
        self._live = Live(console=stderr, transient=True, get_renderable=self._now)
        if stderr.is_terminal and not stderr.quiet:
            self._live.start()

    def _now(self) -> RenderableType:
        return _shown([], self._bar, self._whole, self._validation)

    def advance(self, step: int, loss: float, passes: int) -> None:
        rate = passes / max(time.monotonic() - self._started, 1e-9)
        self._bar.update(self._task, completed=step, detail=f"loss {loss:.3f}, {rate:,.0f} passes/s")

    def epoch(self, metrics: Mapping[str, float]) -> None:
        if "clean" in metrics:
            self._validation = f"held out: clean {metrics['clean']:.3f}, PGD-10 {metrics['robust']:.3f}"
        if not stderr.is_terminal:
            found = ", ".join(filter(None, (f"loss {metrics['loss']:.4f}", self._validation)))
            stderr.print(f"{self._name:<12} epoch {metrics['epoch']}: {found}")

    def end(self) -> None:
        self._live.stop()


class ConsoleReporter:
    """A benchmark's or a queue's reporter on the console, with a bar for all of its models: half of one is its
    training."""

    def __init__(self) -> None:
        self._whole = _bar()
        self._task = self._whole.add_task("", total=None, detail="")
        self._number = 1

    def say(self, text: str) -> None:
        stderr.print(text)

    def model(self, number: int, of: int) -> None:
        self._number = number
        self._whole.update(self._task, description=f"model {number} of {of}", total=of, completed=number - 1)

    def training(self) -> TrainingConsole:
        return TrainingConsole(self._whole)

    def evaluation(self) -> EvaluationConsole:
        self._whole.update(self._task, completed=self._number - 0.5)
        return EvaluationConsole(self._whole)


def _shown(
    tables: Sequence[RenderableType], bar: Progress, whole: Progress | None = None, note: str = ""
) -> RenderableType:
    """A bar below as much of the tables as there is room for, then a note and the bar of the whole run."""
    below: list[RenderableType] = [bar]
    if note:
        below.append(Text(note, no_wrap=True, overflow="ellipsis"))
    if whole is not None:
        below.append(whole)
    return Group(_Room(tables, below=2 + len(below)), *below)


def _bar() -> Progress:
    """One line of the terminal: the name, the bar, the time left, and as much of the detail as fits."""
    return Progress(
        TextColumn("{task.description}", markup=False, table_column=_cut(24)),
        BarColumn(bar_width=16),
        TextColumn("{task.percentage:>3.0f}%", markup=False, table_column=Column(no_wrap=True)),
        TimeRemainingColumn(table_column=Column(no_wrap=True)),
        TextColumn("{task.fields[detail]}", markup=False, table_column=_cut()),
        console=stderr,
        disable=not stderr.is_terminal,
        speed_estimate_period=DAY,
    )


def _cut(width: int | None = None) -> Column:
    return Column(max_width=width, no_wrap=True, overflow="ellipsis")
