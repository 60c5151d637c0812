"""Code of other libraries without the network, and without running what a file of weights brings along."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from threading import get_ident
from typing import Any


@contextmanager
def offline() -> Iterator[list[str]]:
    """Refuses every host that this thread asks for; gives the list of them."""
    thread, resolve = get_ident(), socket.getaddrinfo
    refused: list[str] = []

    def refusing(host: Any, *rest: Any, **more: Any) -> Any:
        if get_ident() != thread:
            return resolve(host, *rest, **more)
        refused.append(str(host))
        raise OSError(f"robench asks {host} for nothing unless it is told to")

    socket.getaddrinfo = refusing
    try:
        yield refused
    finally:
        socket.getaddrinfo = resolve


@contextmanager
def weights_only() -> Iterator[None]:
    """Whatever calls `torch.load`, it reads tensors and runs no pickled code."""
    name = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
    before = os.environ.get(name)
    os.environ[name] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before
