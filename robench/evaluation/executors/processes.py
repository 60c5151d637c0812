"""Runs units in processes of this machine, which share the examples of each attack."""

import mmap
import os
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from math import inf
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from multiprocessing.reduction import recv_handle, send_handle
from queue import SimpleQueue
from threading import Thread, main_thread
from typing import Any

import torch

from robench.evaluation.evaluation import Evaluation
from robench.evaluation.shards import Overdue, Unit, Watch, lost
from robench.evaluation.worker import Prepared
from robench.utils import signals
from robench.utils.containment import Stop
from robench.utils.errors import UserError
from robench.utils.serialize import pack, unpack

RETRIES = 2
"""How often a unit is run again whose worker died."""

PATIENCE = 10.0
"""Seconds that a worker has to write what it has finished when it is to end at once."""

INTERVAL = 0.2
"""Seconds between two reports of a worker on its active examples, and between two looks at whether a signal came."""

LOST = (EOFError, ConnectionResetError, BrokenPipeError)


@dataclass
class _Worker:
    """A process, the unit it runs with the number of examples that it lacked and what was told of its batches, and
    what it reported last: its active examples, its passes so far and what is done of its batch."""

    process: BaseProcess
    unit: Unit | None = None
    lacked: int = 0
    told: list[tuple[int, int]] = field(default_factory=list)
    ready: bool = False
    last: bool = False
    """it was told to end after its batch"""
    active: int = 0
    passes: int = 0
    done: float = 0.0


class Executor:
    """See `robench.evaluation.executors.Executor`. The processes are started when there is work, and kept for all that
    follows."""

    def __init__(self, evaluation: Evaluation, workers: int) -> None:
        self._count, self.threads = workers, max(torch.get_num_threads() // workers, 1)
        self._name = evaluation.subject.name
        self._parcel = _nameless(pack(evaluation, self._name))
        self._workers: dict[Connection, _Worker] = {}
        self._passes = 0
        """of the processes that are gone"""

    def __enter__(self) -> "Executor":
        return self

    def __exit__(self, *_: Any) -> None:
        for connection in self._workers:
            connection.close()  # at which they end
        until = time.monotonic() + PATIENCE
        for worker in self._workers.values():
            worker.process.join(max(until - time.monotonic(), 0.0))
            worker.process.kill()
            worker.process.join()
        self._parcel.close()

    def run(self, units: Sequence[Unit], watch: Watch, timeout: float = inf) -> None:
        waiting, deaths, until = deque(units), Counter[Unit | None](), inf
        while waiting or self._busy:
            if signals.asked():
                waiting.clear()
                self._end_after_their_batches()
            for _ in range(min(self._count, len(waiting) + self._busy) - len(self._workers)):
                self._start()
            self._assign(waiting)
            if self._busy and until == inf:
                until = time.monotonic() + timeout
            if time.monotonic() >= until:
                self._kill_busy(watch)
                raise Overdue
            for connection in wait(list(self._workers), INTERVAL):
                assert isinstance(connection, Connection)
                try:
                    self._hear(connection, connection.recv(), watch)
                except LOST:
                    unit = self._remove(connection, watch)
                    if signals.asked():
                        continue
                    deaths[unit] += 1
                    if deaths[unit] > RETRIES:
                        raise lost(unit, deaths[unit]) if unit else _start_failed(self._name) from None
                    if unit:
                        waiting.appendleft(unit)

    @property
    def _busy(self) -> int:
        return sum(worker.unit is not None for worker in self._workers.values())

    def _kill_busy(self, watch: Watch) -> None:
        for connection, worker in list(self._workers.items()):
            if worker.unit is not None:
                worker.process.kill()
                self._remove(connection, watch)

    def _start(self) -> None:
        ours, theirs = get_context("spawn").Pipe()
        process = get_context("spawn").Process(target=_work, args=(self._name, theirs), daemon=True)
        with theirs, _without_signals():
            process.start()
        self._workers[ours] = _Worker(process)

    def _assign(self, waiting: deque[Unit]) -> None:
        for connection, worker in self._workers.items():
            if waiting and worker.ready and worker.unit is None:
                worker.unit = unit = waiting.popleft()
                worker.lacked, worker.told = len(unit.lacking()[0]), []
                with suppress(*LOST):  # its silence tells of its death
                    connection.send(unit)

    def _end_after_their_batches(self) -> None:
        for connection, worker in self._workers.items():
            if worker.unit and not worker.last:
                worker.last = True
                with suppress(*LOST):
                    connection.send(None)

    def _hear(self, connection: Connection, said: tuple[str, Any], watch: Watch) -> None:
        worker, (kind, content) = self._workers[connection], said
        if kind == "started":
            assert worker.process.pid
            send_handle(connection, self._parcel.fileno(), worker.process.pid)
        elif kind == "ready":
            worker.ready, worker.unit, worker.active = True, None, 0
        elif kind == "active":
            worker.active, worker.passes, worker.done = content
            workers = self._workers.values()
            passes = self._passes + sum(w.passes for w in workers)
            watch.active(sum(w.active for w in workers), passes, sum(w.done for w in workers))
        elif kind == "advance":
            worker.told.append(content)
            worker.done = 0.0
            watch.advance(*content)
        elif kind == "refused":
            raise UserError(content)
        else:
            raise RuntimeError(f"a worker failed:\n{content}")

    def _remove(self, connection: Connection, watch: Watch) -> Unit | None:
        """Removes a worker that is gone, takes back what it reported of batches that it has not written, and returns
        the unit that it was running."""
        worker = self._workers.pop(connection)
        connection.close()
        worker.process.join()
        self._passes += worker.passes
        if worker.unit:
            written = worker.lacked - len(worker.unit.lacking()[0])
            while sum(examples for examples, _ in worker.told) > written:
                examples, robust = worker.told.pop()
                watch.advance(-examples, -robust)
        return worker.unit


def _start_failed(name: str) -> UserError:
    return UserError(
        f"worker processes for {name} end as they start; a script that asks for workers must keep what it runs under "
        'if __name__ == "__main__":'
    )


def _nameless(content: bytes) -> Any:
    """An open file that is gone with the last process that has it, however that ends."""
    file = tempfile.TemporaryFile()  # noqa: SIM115
    try:
        file.write(content)
        file.flush()
    except OSError as error:
        raise UserError(f"{tempfile.gettempdir()} cannot be written: {error.strerror}; set TMPDIR to another") from None
    return file


@contextmanager
def _without_signals() -> Iterator[None]:
    """A process started here hears no Ctrl-C, nor what else is sent to all of a job: this one does, and tells it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _work(name: str, talk: Connection) -> None:
    """What a worker does, until its parent is gone or tells it to end."""
    sys.stdout = sys.stderr  # standard output is for what the command has found
    try:
        with suppress(*LOST):
            talk.send(("started", None))
            with mmap.mmap(recv_handle(talk), 0, access=mmap.ACCESS_READ) as parcel:
                _follow(parcel, name, talk, _Orders(talk))
    finally:
        os._exit(0)  # Python would take seconds to put torch away


class _Orders:
    """What the parent says to this worker: its units, then None to end after the batch at hand.

    A thread listens, so that the parent's own end is heard whatever this process does: then it writes what it has
    finished, and ends.
    """

    def __init__(self, talk: Connection) -> None:
        self._talk, self._units, self.last = talk, SimpleQueue[Unit | None](), False
        signal.signal(signal.SIGUSR1, _stop)
        Thread(target=self._listen, daemon=True).start()

    def next(self) -> Unit | None:
        """The next unit; None where there is none to come."""
        return self._units.get()

    def _listen(self) -> None:
        with suppress(EOFError, OSError):
            while True:
                unit = self._talk.recv()
                self.last = unit is None
                self._units.put(unit)
        self._units.put(None)
        if main := main_thread().ident:
            signal.pthread_kill(main, signal.SIGUSR1)  # past every `except Exception`, and rows are still written
        time.sleep(PATIENCE)
        os._exit(1)


def _stop(*_: Any) -> None:
    raise Stop


def _follow(parcel: mmap.mmap, name: str, talk: Connection, orders: _Orders) -> None:
    """Does what units come."""
    try:
        prepared = Prepared(unpack(parcel, name))
        talk.send(("ready", None))
        while unit := orders.next():
            prepared.do(unit, _Telling(talk, orders))
            talk.send(("ready", None))
    except UserError as error:
        talk.send(("refused", str(error)))
    except LOST:
        raise
    except Exception:
        talk.send(("failed", traceback.format_exc()))


class _Telling:
    """Passes on to the parent what a unit's watch is told."""

    def __init__(self, talk: Connection, orders: _Orders) -> None:
        self._talk, self._orders, self._told = talk, orders, 0.0

    def active(self, examples: int, passes: int, done: float) -> None:
        if time.monotonic() - self._told >= INTERVAL:
            self._told = time.monotonic()
            self._say("active", examples, passes, done)

    def advance(self, examples: int, robust: int) -> None:
        self._say("advance", examples, robust)
        if self._orders.last:
            raise Stop

    def _say(self, kind: str, *content: float) -> None:
        try:
            self._talk.send((kind, content))
        except LOST:
            raise Stop from None
