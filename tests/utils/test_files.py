"""Temporary files and folders: none is left, whatever becomes of the process that made it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from robench.ledger.store import Ledger
from robench.utils import files
from robench.utils.errors import UserError
from robench.utils.files import leftovers, replacing, scratch
from tests import ROOT

KILLED = """
import os, signal, sys
from pathlib import Path
from robench.utils.files import replacing, scratch
with scratch() as folder, replacing(Path(sys.argv[1])) as temporary:
    (folder / "images").write_bytes(b"x")
    temporary.write_bytes(b"half")
    print(temporary, folder, flush=True)
    if sys.argv[2] == "wait":
        sys.stdin.read()
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def tmp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of temporary ones, of this process and of those it starts."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    return tmp_path


def begun(final: Path, how: str) -> tuple[subprocess.Popen[str], list[Path]]:
    """A process that is killed, or waits, as it writes; and what is temporary of it, an hour old."""
    command = [sys.executable, "-c", KILLED, str(final), how]
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    paths = [Path(word) for word in process.stdout.readline().split()]
    for path in paths:
        os.utime(path, (time.time() - 3600,) * 2)
    return process, paths


def test_what_a_killed_process_left_is_removed_by_the_next(tmp: Path) -> None:
    process, left = begun(tmp / "m.pt", "die")
    assert process.wait() == -signal.SIGKILL
    assert all(path.exists() for path in left)
    with scratch() as folder, replacing(tmp / "m.pt") as temporary:
        assert not any(path.exists() for path in left)
        temporary.write_text("whole")
    assert not folder.exists()
    assert (tmp / "m.pt").read_text() == "whole"
    assert leftovers(tmp) == []


def test_what_a_living_process_needs_is_not(tmp: Path) -> None:
    process, needed = begun(tmp / "m.pt", "wait")
    with scratch(), replacing(tmp / "m.pt") as temporary:
        temporary.write_text("whole")
    files.sweep(tmp)
    assert all(path.exists() for path in needed)
    process.communicate("")


def test_what_killed_processes_left_in_a_cell_is_removed_when_it_is_opened(tmp: Path) -> None:
    cell = Ledger(tmp).cell({"attack": "pgd"}, {}, {})
    process, (left, _) = begun(cell.path / "part-0.parquet", "die")
    process.wait()
    assert left.exists()
    Ledger(tmp).cell({"attack": "pgd"}, {}, {})
    assert [path.name for path in cell.path.iterdir()] == ["cell.json"]


def test_a_full_disk_leaves_nothing_in_a_cell(tmp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, text: str) -> None:
        path.write_bytes(text[:5].encode())
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", full)
        with pytest.raises(UserError, match="No space left on device"):
            Ledger(tmp).cell({"attack": "pgd"}, {}, {})
    assert [path for path in tmp.rglob("*") if path.is_file()] == []
