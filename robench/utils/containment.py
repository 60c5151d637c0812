"""Code that is not ours, kept from ending the program before it has said what it found."""

from collections.abc import Iterator
from contextlib import contextmanager


class Stop(BaseException):
    """Ends this process of ours at once, whatever code it runs; no handler of foreign code holds it up."""


class ForeignExit(Exception):  # noqa: N818
    """Foreign code asked the program to end."""


@contextmanager
def contained(what: str) -> Iterator[None]:
    """Turns a request to end the program by `what`, such as `sys.exit(0)`, into the error ForeignExit.

    An interrupt by the user, and our own `Stop`, pass."""
    try:
        yield
    except (Exception, KeyboardInterrupt, Stop):
        raise
    except BaseException as error:
        raise ForeignExit(f"{what} asked to end the program ({type(error).__name__}: {error})") from error
