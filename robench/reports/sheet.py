"""A table for people, which fits the console that it is shown on."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from rich import box
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions
from rich.table import Table
from rich.text import Text

from robench.utils.text import cleaned

GAP = 2
"""Blanks between two columns."""

FOLDED = 20
"""The width down to which words are folded before a table is parted."""


@dataclass(frozen=True)
class Sheet:
    """Lines under a header; the columns in `words` hold words, the others numbers, which are never folded or cut.

    A sheet that is too wide is shown in parts, one below the other: the first `keys` columns are repeated in each. A
    new part begins at the columns `breaks`, and wherever the next column does not fit."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()
    words: Collection[int] = (0,)
    keys: int = 1
    breaks: Collection[int] = ()
    stressed: str | None = None
    """the first cell of the line in bold"""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Table | Text]:
        yield Text(cleaned(self.title), style="bold")
        for part in self.parts(options.max_width):
            yield Text()
            yield self._table(part)
        if self.notes:
            yield Text()
        yield from (Text(cleaned(note), style="dim") for note in self.notes)

    def parts(self, width: int) -> list[list[int]]:
        """The columns that stand side by side in so many characters, those of the keys first."""
        keys, others = list(range(self.keys)), range(self.keys, len(self.header))
        if self._least([*keys, *others]) <= width:
            return [[*keys, *others]]
        parts = [keys]
        for column in others:
            begins = column in self.breaks or self._least([*parts[-1], column]) > width
            if begins and parts[-1] != keys:
                parts.append(keys)
            parts[-1] = [*parts[-1], column]
        return parts

    def _least(self, columns: Sequence[int]) -> int:
        widths = (min(self._width(each), FOLDED) if each in self.words else self._width(each) for each in columns)
        return sum(widths) + GAP * (len(columns) - 1)

    def _width(self, column: int) -> int:
        return max(cell_len(cleaned(line[column])) for line in (self.header, *self.rows))

    def _table(self, columns: Sequence[int]) -> Table:
        table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, collapse_padding=True)
        for column in columns:
            words, name = column in self.words, Text(cleaned(self.header[column]))
            table.add_column(name, justify="left" if words else "right", no_wrap=not words, overflow="fold")
        for row in self.rows:
            cells = (Text(cleaned(row[column])) for column in columns)
            table.add_row(*cells, style="bold" if row[0] == self.stressed else None)
        return table
