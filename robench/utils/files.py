"""Files that appear whole or not at all."""

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from robench.utils.errors import UserError


@contextmanager
def replacing(final: Path) -> Iterator[Path]:
    """A temporary path beside `final` that takes its place, flushed to disk, when the block ends well."""
    make_folder(final.parent)
    temporary = final.with_name(f".{final.name}.{uuid.uuid4().hex}")
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(final)
    except OSError as error:
        raise UserError(f"{final} cannot be written: {error.strerror or error}") from None
    finally:
        temporary.unlink(missing_ok=True)


def make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"the folder {folder} cannot be written: {error.strerror}") from None
