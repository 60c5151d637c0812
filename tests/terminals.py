"""A terminal of so many columns and rows, which remembers what scrolled off it and where a line was wrapped."""

import fcntl
import os
import pty
import re
import struct
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread

import pytest

from robench.cli import console

_PIECE = re.compile(r"\x1b\[([?\d;]*)([A-Za-z])|([\r\n])|([^\x1b\r\n]+)")


class Screen:
    """What a terminal shows of what is written to it: `lines`, those that scrolled off first."""

    def __init__(self, columns: int, rows: int) -> None:
        self.columns, self.rows = columns, rows
        self.lines, self.row, self.column = [""], 0, 0
        self.wrapped: list[str] = []
        """lines that went on in the next"""
        self.written = ""

    @property
    def text(self) -> str:
        return "\n".join(line.rstrip() for line in self.lines).strip("\n")

    def write(self, text: str) -> None:
        self.written += text
        for arguments, command, move, shown in _PIECE.findall(text):
            if move == "\r":
                self.column = 0
            elif move == "\n":
                self._down()
            elif command:
                self._obey(command, arguments)
            for character in shown:
                self._put(character)

    def _put(self, character: str) -> None:
        if self.column == self.columns:
            self.wrapped.append(self.lines[self.row])
            self._down()
            self.column = 0
        line = self.lines[self.row].ljust(self.column)
        self.lines[self.row] = line[: self.column] + character + line[self.column + 1 :]
        self.column += 1

    def _down(self) -> None:
        self.row += 1
        if self.row == len(self.lines):
            self.lines.append("")

    def _obey(self, command: str, arguments: str) -> None:
        count = int(arguments) if arguments.isdecimal() else 1
        if command == "A":
            self.row = max(self.row - count, len(self.lines) - self.rows, 0)
        elif command == "K":
            kept = 0 if arguments == "2" else self.column
            self.lines[self.row] = self.lines[self.row][:kept]
        else:
            assert command in "mhl", f"the command {command} is not known here"  # colours, and the cursor's looks


@contextmanager
def terminal(columns: int = 80, rows: int = 24) -> Iterator[Screen]:
    """Standard output and error of this process are a terminal meanwhile."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    screen, kept = Screen(columns, rows), [os.dup(stream) for stream in (0, 1, 2)]
    reader = Thread(target=_read, args=(ours, screen), daemon=True)
    reader.start()
    with pytest.MonkeyPatch.context() as patch, open(theirs, "w", closefd=False) as file:
        patch.setattr(sys, "stdout", file)
        patch.setattr(sys, "stderr", file)
        patch.setenv("TERM", "xterm")
        for name in ("COLUMNS", "LINES", "NO_COLOR"):
            patch.delenv(name, raising=False)
        patch.setattr(console, "stderr", console.progress_terminal())  # which learns where it is as it is made
        for stream in (0, 1, 2):
            os.dup2(theirs, stream)
        try:
            yield screen
        finally:
            file.flush()
            for stream, before in enumerate(kept):
                os.dup2(before, stream)
                os.close(before)
    os.close(theirs)
    reader.join()
    os.close(ours)


def _read(ours: int, screen: Screen) -> None:
    found = b""
    while True:
        try:
            found += os.read(ours, 65536)
        except OSError:  # the other end is closed
            break
    screen.write(found.decode())
