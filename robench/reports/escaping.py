"""Text that others chose, in formats that would read some of it as their own words: Markdown and CSV."""

import csv
import io
import re
from collections.abc import Iterable, Sequence

import pandas as pd

from robench.utils.text import cleaned

_MARKDOWN = re.compile(
    r"[\\`<|~$]"
    r"|[*](?=\S)|(?<![^\W_])_(?=\S)"  # where emphasis could begin
    r"|\](?=[(\[:])"  # where a link could end
    r"|&(?=#?\w+;)"
)

_FORMULA = re.compile(r"[=+@]|-(?=.)")
_NUMBER = re.compile(r"[+-]?[\d.,]+(e[+-]?\d+)?")


def markdown(text: str) -> str:
    """The text, with what Markdown or the HTML in it would read as more than text escaped."""
    return _MARKDOWN.sub(r"\\\g<0>", cleaned(text))


def pipe(cells: Iterable[str]) -> str:
    """A line of a table in Markdown."""
    return f"| {' | '.join(map(markdown, cells))} |"


def spreadsheet(text: str) -> str:
    """The text, after an apostrophe where a spreadsheet would take it for a formula."""
    text = cleaned(text)
    return f"'{text}" if _FORMULA.match(text) and not _NUMBER.fullmatch(text) else text


def csv_lines(rows: Iterable[Sequence[str]]) -> str:
    """CSV of cells that are text."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([spreadsheet(cell) for cell in row] for row in rows)
    return text.getvalue()


def csv_of(frame: pd.DataFrame) -> str:
    """CSV of a frame, with six digits of its numbers."""
    safe = frame.map(lambda value: spreadsheet(value) if isinstance(value, str) else value)
    return safe.rename(columns=spreadsheet).to_csv(index=False, float_format="%.6g", lineterminator="\n")
