"""Tables in plain LaTeX, which need no package."""

import re
from collections.abc import Iterable, Sequence

from robench.utils.text import cleaned

_SPECIAL = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "±": r"$\pm$",
}


def tex(text: str) -> str:
    """The text, with what LaTeX would read as a command escaped."""
    return re.sub(r"[\\~^<>|±&%$#_{}]", lambda found: _SPECIAL.get(found[0], "\\" + found[0]), cleaned(text))


def comments(texts: Iterable[str]) -> list[str]:
    """Lines that LaTeX passes over."""
    return [f"% {cleaned(text)}" for text in texts]


def tabular(columns: str, heads: Sequence[Sequence[str]], body: Sequence[Sequence[str]]) -> list[str]:
    """Its lines, from cells that are LaTeX already; `columns` is such as "lrr"."""
    head, rows = ([_line(cells) for cells in lines] for lines in (heads, body))
    begin = rf"\begin{{tabular}}{{{columns}}}"
    return [begin, r"\hline", *head, r"\hline", *rows, r"\hline", r"\end{tabular}"]


def _line(cells: Sequence[str]) -> str:
    line = " & ".join(cells) + r" \\"
    return "{}" + line if line.startswith(("[", "*")) else line  # which would belong to the end of the line before
