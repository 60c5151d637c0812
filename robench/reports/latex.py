"""Tables in plain LaTeX, which need no package."""

import re
from collections.abc import Sequence

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
    return re.sub(r"[\\~^<>|±&%$#_{}]", lambda found: _SPECIAL.get(found[0], "\\" + found[0]), text)


def tabular(columns: str, heads: Sequence[Sequence[str]], body: Sequence[Sequence[str]]) -> list[str]:
    """Its lines, from cells that are LaTeX already; `columns` is such as "lrr"."""
    head, rows = ([" & ".join(line) + r" \\" for line in lines] for lines in (heads, body))
    begin = rf"\begin{{tabular}}{{{columns}}}"
    return [begin, r"\hline", *head, r"\hline", *rows, r"\hline", r"\end{tabular}"]
