"""Files that appear whole or not at all, and folders for what is needed for a while; of both nothing is left over."""

import fcntl
import os
import shutil
import stat
import tempfile
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path

from robench.utils.errors import UserError

SCRATCH = "robench-scratch-"
"""How the names of folders begin that are needed for a while."""

YOUNG = 60.0
"""Seconds within which what is temporary may not have been locked yet by the process that needs it."""


@contextmanager
def replacing(final: Path, named: Callable[[Path], str] | None = None) -> Iterator[Path]:
    """A temporary path beside `final` that takes its place, flushed to disk, when the block ends well; or the place of
    a name that is made of what was written."""
    make_folder(final.parent)
    try:
        with temporary_beside(final) as temporary:
            yield temporary
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
            temporary.replace(final.with_name(named(temporary)) if named else final)
    except OSError as error:
        raise UserError(f"{final} cannot be written: {error.strerror or error}") from None


@contextmanager
def temporary_beside(final: Path) -> Iterator[Path]:
    """An empty file beside `final`, for what is to take its place; gone when the block ends or, where the process is
    killed, when its folder is swept."""
    _remove_ownerless(final.parent.glob(f".{escape(final.name)}.*"))
    temporary = final.with_name(f".{final.name}.{uuid.uuid4().hex}")
    lock = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        _lock(lock)
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)
        os.close(lock)


def sweep(folder: Path) -> None:
    """Removes the temporary files that killed processes left there."""
    _remove_ownerless(leftovers(folder))


def leftovers(folder: Path) -> list[Path]:
    """The temporary files in a folder, those of living processes among them."""
    return sorted(folder.glob(f".*.{'[0-9a-f]' * 32}"))


@contextmanager
def scratch() -> Iterator[Path]:
    """An empty folder, gone when the block ends or, where the process is killed, when another asks for one."""
    _remove_ownerless(Path(tempfile.gettempdir()).glob(f"{SCRATCH}*"))
    folder = Path(tempfile.mkdtemp(prefix=SCRATCH))
    lock = os.open(folder, os.O_RDONLY)
    try:
        _lock(lock)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def check_file(path: Path) -> None:
    """Raises where it is no file that can be read: nothing, a folder, a device, or no path at all."""
    try:
        kind = os.stat(path).st_mode
    except FileNotFoundError:
        raise UserError(f"there is no file {path}") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if not stat.S_ISREG(kind):
        raise UserError(f"expected a file, {path} is {'a folder' if stat.S_ISDIR(kind) else 'none'}")


def make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        raise UserError(f"the folder {folder} cannot be written: {getattr(error, 'strerror', None) or error}") from None


def _lock(descriptor: int) -> bool:
    """Locks a file or folder until it is closed, or its process ends; whether nobody else has."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # or the file system has no locks: then nothing counts as left over
        return False
    return True


def _remove_ownerless(paths: Iterable[Path]) -> None:
    """Removes those that no living process has locked."""
    for path in paths:
        with suppress(OSError):
            if time.time() - path.stat().st_mtime < YOUNG:
                continue
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
            try:
                if _lock(descriptor):
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
            finally:
                os.close(descriptor)
