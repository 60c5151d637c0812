"""Signals that ask a process to end, in what goes in steps and around it."""

import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from robench.utils import signals
from robench.utils.signals import Stopped

NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """Are as they were, whatever a test does."""
    before = [signal.getsignal(number) for number in NUMBERS]
    yield
    assert [signal.getsignal(number) for number in NUMBERS] == before


def steps_of(what: Callable[[int], None], steps: int = 9) -> list[int]:
    """The steps of a run that end, in each of which something happens."""
    ended: list[int] = []
    with pytest.raises(Stopped) as stopped, signals.deferred("step"):  # noqa: PT012
        for step in range(steps):
            what(step)
            ended.append(step)
            signals.check(f"after {step}")
    return [*ended, stopped.value.number]


@pytest.mark.parametrize("number", NUMBERS)
def test_a_signal_waits_for_the_end_of_a_step(number: int, capfd: pytest.CaptureFixture[str]) -> None:
    assert steps_of(lambda step: signal.raise_signal(number) if step == 2 else None) == [0, 1, 2, number]
    assert signals.asked() is None
    assert "stopping at the end of this step" in capfd.readouterr().err


def test_what_was_not_heeded_is_raised_at_the_end() -> None:
    def run() -> None:
        with signals.deferred("step"):
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(KeyboardInterrupt):
        run()


def test_a_second_signal_stops_at_once_but_an_echo_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    def twice(step: int) -> None:
        signal.raise_signal(signal.SIGTERM)  # as `timeout` sends it, to the process and to its group
        signal.raise_signal(signal.SIGTERM)

    assert steps_of(twice) == [0, signal.SIGTERM]
    monkeypatch.setattr(signals, "REPEAT", 0.0)
    assert steps_of(twice) == [signal.SIGTERM]


@pytest.mark.parametrize("number", NUMBERS)
def test_around_steps_every_signal_is_raised_at_once(number: int) -> None:
    def run() -> None:
        with signals.raised():
            signal.raise_signal(number)
            pytest.fail("it went on")

    with pytest.raises(Stopped) as stopped:
        run()
    assert stopped.value.number == number


def test_steps_within_a_command_are_left_to_end_whose_echo_is_none_of_the_commands() -> None:
    with signals.raised():
        assert steps_of(lambda step: signal.raise_signal(signal.SIGTERM)) == [0, signal.SIGTERM]
        signal.raise_signal(signal.SIGTERM)


@pytest.mark.parametrize("theirs", [signal.SIG_IGN, lambda number, frame: None])
def test_what_the_program_around_handles_or_ignores_is_left_to_it(theirs: Any) -> None:
    before = signal.signal(signal.SIGTERM, theirs)
    try:
        with signals.raised(), signals.deferred("step"):
            signal.raise_signal(signal.SIGTERM)
            assert signals.asked() is None
            assert signal.getsignal(signal.SIGTERM) is theirs
    finally:
        signal.signal(signal.SIGTERM, before)


def test_off_the_main_thread_nothing_changes() -> None:
    seen = []

    def work() -> None:
        with signals.raised(), signals.deferred("step"):
            seen.append([signal.getsignal(number) for number in NUMBERS])

    before = [signal.getsignal(number) for number in NUMBERS]
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]
