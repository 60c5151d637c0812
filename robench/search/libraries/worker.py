"""The other side of `robench.search.libraries.process`: loads and compiles once, and forks for each call.

So every call begins from the same state, one that hangs or dies takes nothing with it, and what was loaded stays. It
ends when the socket of its orders closes, as it does whenever and however the process that started it ends.
"""

import os
import signal
import sys
import traceback
import warnings
from functools import cache
from multiprocessing.connection import Connection
from multiprocessing.reduction import recv_handle
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from robench.utils import registry
from robench.utils.global_rng import reseed


class _Enough(BaseException):
    """Not an Exception, so that no library catches it."""


class _Pass(torch.autograd.Function):
    """Logits, and the gradient at x, from the process that has the model."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, talk: Connection, wanted: bool) -> Tensor:
        talk.send(("logits", x.detach().numpy(), wanted))
        answer = talk.recv()
        if answer is None:
            raise _Enough
        ctx.talk, (ctx.number, logits) = talk, answer
        return torch.from_numpy(logits)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        ctx.talk.send(("gradient", ctx.number, gradient.numpy()))
        return torch.from_numpy(ctx.talk.recv()), None, None


class _Model(nn.Module):
    """Stands in for the model."""

    def __init__(self, talk: Connection) -> None:
        super().__init__()
        self._talk = talk

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = _Pass.apply(x, self._talk, x.requires_grad and torch.is_grad_enabled())
        return logits


def main() -> None:
    """Follows orders until there can be no more."""
    orders = Connection(int(sys.argv[1]))
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    child = 0
    try:
        while True:
            order, *given = orders.recv()
            if order == "prepare":
                orders.send(_prepare(*given[0]))
            elif order == "begin":
                talk = Connection(recv_handle(orders))
                child = os.fork()
                if not child:
                    orders.close()
                    _call(talk, *given)
                talk.close()
            else:
                child = _ended(child)
    except (EOFError, ConnectionResetError):
        _ended(child)


def _prepare(call: Any, ready: Any) -> str | None:
    """Loads the function's file and makes the call that makes it ready; gives what went wrong."""
    try:
        _function(*call[:2])
        if ready:
            path, name, arguments, keywords = ready
            _function(path, name)(*arguments, **keywords)
    except Exception as error:
        return _described(error)
    return None


def _call(talk: Connection, call: Any, arrays: list[Any], seed: int) -> None:
    """Makes one call, and ends the process without a word more."""
    path, name, arguments, keywords = call
    reseed(seed)
    try:
        given = _function(path, name)(_Model(talk), *map(torch.from_numpy, arrays), *arguments, **keywords)
        talk.send(("returned", given.detach().numpy()))
    except _Enough:
        talk.send(("returned", None))
    except BaseException as error:
        talk.send(("failed", _described(error)))
    finally:
        os._exit(0)


def _ended(child: int) -> int:
    """Kills a child, if there is one, and none is left."""
    if child:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    return 0


@cache
def _module(path: str) -> Any:
    return registry.load_file(Path(path))


def _function(path: str, name: str) -> Any:
    return getattr(_module(path), name)


def _described(error: BaseException) -> str:
    """Its type and message or, as for a bare assertion, the line that raised it."""
    return f"{type(error).__name__}: {str(error) or traceback.extract_tb(error.__traceback__)[-1].line}"


if __name__ == "__main__":
    main()
