"""The signals that ask a process to end: Ctrl-C, and what `timeout`, Slurm, `docker stop` or a closed terminal sends.

What goes in steps hears them between two, so that it keeps what it has; everything else is stopped at once.
"""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

REPEAT = 1.0
"""Seconds within which a signal that comes again is the same request: `timeout` and launchers send it twice."""

_DEFAULT: dict[int, Any] = {
    signal.SIGINT: signal.default_int_handler,
    signal.SIGTERM: signal.SIG_DFL,
    signal.SIGHUP: signal.SIG_DFL,
}
"""How Python handles them where nobody has said otherwise."""

Handler = Callable[[int, FrameType | None], None]


class Stopped(KeyboardInterrupt):
    """The signal `number` has ended what ran; the message says what is kept and how to go on."""

    def __init__(self, number: int, message: str = "stopped") -> None:
        super().__init__(message)
        self.number = number


def number_of(interrupt: KeyboardInterrupt) -> int:
    """The signal behind an interrupt, Ctrl-C where it does not say."""
    return interrupt.number if isinstance(interrupt, Stopped) else signal.SIGINT


class _Request:
    """What was asked of this process by signals, and when first."""

    def __init__(self) -> None:
        self.number: int | None = None
        self._since = 0.0

    def is_new(self, number: int) -> bool:
        """Notes a signal; whether it is more than the echo of another."""
        if self.number is not None and time.monotonic() - self._since < REPEAT:
            return False
        self.number, self._since = number, time.monotonic()
        return True


_deferred: _Request | None = None
_around: _Request | None = None
"""Of `raised`, which knows an echo of what was `deferred` within."""


def asked() -> int | None:
    """The signal that asks what runs under `deferred` to stop; None where none came."""
    return _deferred.number if _deferred else None


def check(message: str = "stopped") -> None:
    """Raises `Stopped` where a signal asks for it."""
    if (number := asked()) is not None:
        raise Stopped(number, message)


@contextmanager
def deferred(unit: str) -> Iterator[None]:
    """While the block runs, a signal is only noted, for `asked` to tell once its `unit` of work is done; another one
    stops at once. What was noted and not heeded is raised as the block ends.

    Nothing changes off the main thread, nor of a signal that the program around robench handles, or ignores.
    """
    global _deferred
    if _deferred is not None or not _on_main_thread():
        yield
        return
    request = _around or _Request()

    def note(number: int, frame: FrameType | None) -> None:
        again = request.number is not None
        if request.is_new(number):
            if again:
                raise Stopped(number)
            os.write(2, f"\nrobench: stopping at the end of this {unit}; once more stops at once\n".encode())

    with _handled_by(note):
        _deferred = request
        try:
            yield
        finally:
            _deferred = None
    if request.number is not None:
        raise Stopped(request.number)


@contextmanager
def raised() -> Iterator[None]:
    """While the block runs, every signal that would end the process raises `Stopped` there, so that it cleans up."""
    global _around
    request = _around = _Request()

    def stop(number: int, frame: FrameType | None) -> None:
        if request.is_new(number):
            raise Stopped(number)

    _ours.add(stop)
    try:
        with _handled_by(stop):
            yield
    finally:
        _ours.discard(stop)
        _around = None


def _on_main_thread() -> bool:
    """The only one that may say who handles a signal."""
    return threading.current_thread() is threading.main_thread()


_ours: set[Handler] = set()
"""Handlers by `raised`, which `deferred` may take the place of."""


@contextmanager
def _handled_by(handler: Handler) -> Iterator[None]:
    """Signals go to this handler, where nobody else's has them."""
    held = {number: signal.getsignal(number) for number in _DEFAULT if _on_main_thread()}
    before: dict[int, Any] = {number: it for number, it in held.items() if it == _DEFAULT[number] or it in _ours}
    try:
        for number in before:
            signal.signal(number, handler)
        yield
    finally:
        for number, it in before.items():
            signal.signal(number, it)
