"""What a person sees while robench works: on standard error, so that standard output holds results alone."""

import time
from collections.abc import Mapping

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

stderr = Console(stderr=True, highlight=False, soft_wrap=True)


class EvaluationProgress:
    """A line for each attack: examples, accuracy so far, passes a second, time left; it stays when the attack ends."""

    def begin(self, attack: str, examples: int) -> None:
        self._bar = _bar(f"{attack:<12}")
        self._task = self._bar.add_task("", total=examples, detail="")
        self._robust = self._passes = self._done = 0
        self._started = time.monotonic()
        self._name = attack
        self._bar.start()

    def advance(self, examples: int, robust: int, passes: int) -> None:
        self._done += examples
        self._robust += robust
        self._passes += passes
        self._bar.update(self._task, advance=examples, detail=self._detail())

    def end(self) -> None:
        self._bar.stop()
        if not stderr.is_terminal and self._done:
            stderr.print(f"{self._name:<12} {self._done} examples, {self._detail()}")

    def _detail(self) -> str:
        rate = self._passes / max(time.monotonic() - self._started, 1e-9)
        return f"accuracy {100 * self._robust / self._done:.1f} %, {rate:,.0f} passes/s"


class TrainingProgress:
    """A line for a training: steps, loss, accuracies on the images held out, steps a second, time left."""

    def begin(self, name: str, steps: int, done: int) -> None:
        self._bar = _bar(f"{name:<12}")
        self._task = self._bar.add_task("", total=steps, completed=done, detail="")
        self._validation = ""
        self._name, self._first, self._started = name, done, time.monotonic()
        self._bar.start()

    def advance(self, step: int, loss: float) -> None:
        rate = (step - self._first) / max(time.monotonic() - self._started, 1e-9)
        self._bar.update(self._task, completed=step, detail=f"loss {loss:.3f}{self._validation}, {rate:.1f} steps/s")

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

    def training(self) -> TrainingProgress:
        return TrainingProgress()

    def evaluation(self) -> EvaluationProgress:
        return EvaluationProgress()


def _bar(title: str) -> Progress:
    return Progress(
        TextColumn(title),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[detail]}"),
        console=stderr,
        disable=not stderr.is_terminal,
    )
