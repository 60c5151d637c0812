"""Calls a library's function in a process of its own, which can be killed, while the model stays in this one.

The function sees a stand-in for the model, and asks this process for each pass: nothing of the model is ever pickled,
its device is its own affair, and its passes are counted here. `robench.search.libraries.worker` is the other side.
"""

import atexit
import inspect
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.reduction import send_handle
from typing import Any

import torch
from torch import Tensor

from robench.utils.errors import AttackError

PREPARATION = 600.0
"""seconds that loading and compiling may take"""


class Enough(Exception):  # noqa: N818
    """Raised by a model whose caller need not go on: the call ends, and gives None."""


def call(
    function: Callable[..., Tensor],
    *tensors: Tensor,
    model: Callable[[Tensor], Tensor],
    seconds: float,
    ready: Callable[[], Any] | None = None,
    seed: int = 0,
) -> Tensor | None:
    """What `function(model, *tensors)` gives, on the device of the tensors; the random states there begin at `seed`.

    The process loads the function's file and calls `ready` once, before any clock runs. `seconds` limit the function's
    own work, its model's passes aside. Function and `ready` stand at the top of a file; `partial` may give keywords.
    Raises TimeoutError, and ChildProcessError where the function failed or its process died.
    """
    annex = _annex()
    annex.prepare(_named(function), _named(ready) if ready else None)
    talk = annex.begin(_named(function), [tensor.cpu().numpy() for tensor in tensors], seed)
    try:
        given = _serve(talk, model, seconds, tensors[0].device)
    finally:
        annex.end()
        talk.close()
    return None if given is None else torch.from_numpy(given).to(tensors[0].device)


def _serve(talk: Connection, model: Callable[[Tensor], Tensor], seconds: float, device: torch.device) -> Any:
    """Makes the passes that are asked for until the function returns."""
    differentiable: list[tuple[Tensor, Tensor] | None] = []
    left = seconds
    while True:
        since = time.monotonic()
        if not talk.poll(max(left, 0.0)):
            raise TimeoutError(f"it did not end within {seconds:g} s")
        try:
            asked, *given = talk.recv()
        except (EOFError, ConnectionResetError):
            raise ChildProcessError("its process died") from None
        left -= time.monotonic() - since
        if asked == "logits":
            x, wanted = torch.from_numpy(given[0]).to(device).requires_grad_(given[1]), given[1]
            try:
                with torch.set_grad_enabled(wanted):
                    logits = model(x)
            except Enough:
                talk.send(None)
                continue
            differentiable.append((x, logits) if wanted else None)
            talk.send((len(differentiable) - 1, logits.detach().cpu().numpy()))
        elif asked == "gradient":
            graph = differentiable[given[0]]
            assert graph is not None
            x, logits = graph
            (gradient,) = torch.autograd.grad(logits, x, torch.from_numpy(given[1]).to(device))
            differentiable[given[0]] = None
            talk.send(gradient.cpu().numpy())
        elif asked == "failed":
            raise ChildProcessError(given[0])
        else:
            return given[0]


class _Annex:
    """The other process, started once and kept: what it has loaded and compiled serves every later call."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "robench.search.libraries.worker", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                env=os.environ | _ENVIRONMENT | {"PYTHONPATH": os.pathsep.join(p or os.getcwd() for p in sys.path)},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # an interrupt is this process's to handle
            )
        self._orders = Connection(ours.detach())
        self._prepared: set[str] = set()

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def prepare(self, *calls: Any) -> None:
        if str(calls) in self._prepared:
            return
        self._orders.send(("prepare", calls))
        try:
            if not self._orders.poll(PREPARATION):
                raise TimeoutError(f"loading did not end within {PREPARATION:g} s")
            failure = self._orders.recv()
        except (EOFError, ConnectionResetError):
            raise ChildProcessError("its process died as it was loading") from None
        except BaseException:
            self.close()
            raise
        if failure:
            raise ChildProcessError(failure)
        self._prepared.add(str(calls))

    def begin(self, call: Any, arrays: list[Any], seed: int) -> Connection:
        """A fork of the process makes the call; the connection to it ends when it does."""
        ours, theirs = socket.socketpair()
        with theirs:
            self._orders.send(("begin", call, arrays, seed))
            send_handle(self._orders, theirs.fileno(), self._process.pid)
        return Connection(ours.detach())

    def end(self) -> None:
        """Kills the fork if it still runs."""
        self._orders.send(("end",))

    def close(self) -> None:
        self._orders.close()
        self._process.kill()
        self._process.wait()


_ENVIRONMENT = {
    "CUDA_VISIBLE_DEVICES": "",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "NUMBA_NUM_THREADS": "1",
}
"""One thread and no device, so that it can fork."""

_open: dict[int, _Annex] = {}
"""The annex of this process, by its id: a fork of this process needs one of its own."""


def _annex() -> _Annex:
    annex = _open.get(os.getpid())
    if annex is None or not annex.alive:
        annex = _open[os.getpid()] = _Annex()
    return annex


@atexit.register
def _close() -> None:
    if annex := _open.pop(os.getpid(), None):
        annex.close()


def _named(function: Callable[..., Any]) -> tuple[str, str, tuple[Any, ...], dict[str, Any]]:
    """A function, with what `partial` gave it, as another process can find it: file, name, arguments, keywords."""
    if not isinstance(function, partial):
        function = partial(function)
    name, path = function.func.__qualname__, inspect.getsourcefile(function.func)
    if "." in name or path is None:
        raise AttackError(f"{name} must be a function at the top of a file, so that another process finds it")
    return os.path.abspath(path), name, function.args, function.keywords
