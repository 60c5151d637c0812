"""What a person sees while robench works: on standard error, so that standard output holds results alone."""

import time
from collections.abc import Mapping
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from robench.ledger.summary import Summary
from robench.reports import report
from robench.utils.text import cleaned


class Terminal(Console):
    """A console on which text of others is text: nothing in it colours, moves the cursor or stands for an emoji."""

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        """Each line cleaned, as rich renders it."""
        return super().render_str("\n".join(map(cleaned, text.split("\n"))), **options)


stderr = Terminal(stderr=True, highlight=False, soft_wrap=True)


class EvaluationConsole:
    """What the attacks so far have found, and a line for the one that runs: examples done, active in this batch,
    accuracy so far, passes a second, time left."""

    def __init__(self) -> None:
        self._found: list[RenderableType] = []

    def begin(self, attack: str, examples: int) -> None:
        self._bar = _bar()
        self._task = self._bar.add_task(f"{cleaned(attack):<12}", total=examples, detail="")
        self._name, self._started, self._first_pass = attack, time.monotonic(), None
        self._done = self._robust = 0
        self._rate = self._so_far = ""
        self._live = Live(Group(*self._found, self._bar), console=stderr, transient=True)
        if stderr.is_terminal:
            self._live.start()

    _first_pass: int | None

    def active(self, examples: int, passes: int) -> None:
        if self._first_pass is None:
            self._first_pass = passes
        seconds = max(time.monotonic() - self._started, 1e-9)
        if passes > self._first_pass:
            self._rate = f", {(passes - self._first_pass) / seconds:,.0f} passes/s"
        self._bar.update(self._task, detail=f"{self._so_far}active {examples}{self._rate}")

    def advance(self, examples: int, robust: int) -> None:
        self._done += examples
        self._robust += robust
        self._so_far = f"{self._robust} of {self._done} robust, "
        self._bar.update(self._task, advance=examples, detail=f"{self._so_far.rstrip(', ')}{self._rate}")

    def end(self) -> None:
        self._live.stop()
        if not stderr.is_terminal and self._done:
            stderr.print(f"{self._name:<12} {self._so_far.rstrip(', ')}{self._rate}")

    def show(self, summary: Summary) -> None:
        self._found = list(report.evaluation(summary, "table"))


class TrainingConsole:
    """A line for a training: steps, loss, accuracies on the images held out, passes a second, time left."""

    def begin(self, name: str, steps: int, done: int) -> None:
        self._bar = _bar()
        self._task = self._bar.add_task(f"{cleaned(name):<12}", total=steps, completed=done, detail="")
        self._validation = ""
        self._name, self._started = name, time.monotonic()
        self._bar.start()

    def advance(self, step: int, loss: float, passes: int) -> None:
        rate = passes / max(time.monotonic() - self._started, 1e-9)
        self._bar.update(self._task, completed=step, detail=f"loss {loss:.3f}{self._validation}, {rate:,.0f} passes/s")

    def epoch(self, metrics: Mapping[str, float]) -> None:
        if "clean" in metrics:
            self._validation = f", held out: clean {metrics['clean']:.3f}, PGD-10 {metrics['robust']:.3f}"
        if not stderr.is_terminal:
            stderr.print(f"{self._name:<12} epoch {metrics['epoch']}: loss {metrics['loss']:.4f}{self._validation}")

    def end(self) -> None:
        self._bar.stop()


class ConsoleReporter:
    """A benchmark's reporter on the console."""

    def say(self, text: str) -> None:
        stderr.print(text)

    def training(self) -> TrainingConsole:
        return TrainingConsole()

    def evaluation(self) -> EvaluationConsole:
        return EvaluationConsole()


def _bar() -> Progress:
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[detail]}", markup=False),
        console=stderr,
        disable=not stderr.is_terminal,
    )
