"""One hostile text through every format: it is shown, and does nothing."""

import csv
import io
import re
import warnings
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from rich.progress import Progress

from robench.cli.console import EvaluationConsole, Terminal
from robench.ledger.summary import Summary, summarise
from robench.reports import page, ranking, report
from robench.reports.escaping import csv_lines, pipe
from robench.reports.latex import tabular, tex
from robench.utils.text import cleaned
from tests.helpers import Ran
from tests.ledgers import clean, fooled, write

HOSTILE = [
    "\x1b[31mred\x1b[0m\x07\b",
    "two\nlines\r\n| and | a | row |",
    "<script>alert(1)</script><img src=x onerror=alert(1)>",
    "a|b\\|c",
    "=cmd()|'/C calc'!A0",
    "@SUM(1+1)",
    "-2+3",
    "\t=1+1",
    r"\input{/etc/passwd} $x$ 5% #1 a_b {",
    "[red]x[/red] [link=http://a.b]y[/link] [/] :bomb:",
    "\u202egnp.exe\u2066\u200b\ufeff",
    "[x](javascript:alert(1)) ![y](z) <http://a.b> `c` *d* _e_ __f__ ~~g~~ &lt; &#60;",
    "half \ud800 and \udcff",
    "{task.percentage} {0} %s",
    "*] [0pt]",
    "^^M\\end",
]

TEXTS = st.one_of(st.sampled_from(HOSTILE), st.text(max_size=40))


def each(test: Callable[[str], None]) -> Callable[[str], None]:
    """With every text of the list as an example."""
    for text in HOSTILE:
        test = example(text)(test)
    return given(TEXTS)(settings(max_examples=10, deadline=None)(test))


class Texts(HTMLParser):
    """The tags of a page, and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


@each
def test_cleaned_text_is_one_line_that_shows(text: str) -> None:
    once = cleaned(text)
    assert len(once.splitlines()) <= 1
    assert once == cleaned(once)
    once.encode()  # no half of a character, which no file takes
    assert not re.search("[\x00-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2066-\u2069\ufeff]", once)


@each
def test_a_cell_of_markdown_shows_its_text(text: str) -> None:
    table = "\n".join([pipe(["model", "n"]), "| --- | --- |", pipe([f"m{text}m", "8"])])
    seen = Texts(MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).render(table))
    assert set(seen.tags) == {"table", "thead", "tbody", "tr", "th", "td"}
    assert seen.tags.count("td") == 2
    assert f"m{cleaned(text)}m" in seen.text


@each
def test_a_cell_of_csv_is_text_and_no_formula(text: str) -> None:
    ((cell, number),) = csv.reader(io.StringIO(csv_lines([[text, "-0.5"]])))
    assert cell.removeprefix("'") == cleaned(text).removeprefix("'")
    assert cell == "-" or cell[:1] not in {*"=+-@\t\r"} or re.fullmatch(r"[+-]?[\d.,]+(e[+-]?\d+)?", cell)
    assert number == "-0.5"


@each
def test_a_cell_of_latex_holds_no_command(text: str) -> None:
    line = tabular("l", [], [[tex(text)]])[3]
    known = r"\\(textbackslash|textasciitilde|textasciicircum|textless|textgreater|textbar)\{\}|\$\\pm\$|\\[&%$#_{}]"
    left = re.sub(known, "", line.removesuffix(r" \\").removeprefix("{}"))
    assert not re.search(r"[\\~^<>|&%$#_{}\n]", left)
    assert not line.startswith(("[", "*"))


@each
def test_a_cell_of_the_terminal_shows_its_text(text: str) -> None:
    stream = io.StringIO()
    console = Terminal(file=stream, width=2000, force_terminal=True, color_system=None, highlight=False)
    for output in report.render(f"m{text}m", ["x", text], [[text, f"m{text}m"]], "table", [f"m{text}m"]):
        console.print(output)
    shown = stream.getvalue()
    assert f"m{cleaned(text)}m" in shown
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069]", shown)
    assert len(shown.splitlines()) == 7


def test_a_line_of_progress_takes_no_name_for_a_format(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = io.StringIO()
    console = Terminal(file=shown, width=300, force_terminal=True, color_system=None)
    monkeypatch.setattr("robench.cli.console.stderr", console)
    for text in HOSTILE:
        line = EvaluationConsole()
        line.begin(text, 3)
        line.advance(3, 1)
        bar = line._bar
        assert isinstance(bar, Progress)
        console.print(bar)
        line.end()
        assert cleaned(text)[:20] in shown.getvalue()  # a bar has room for so much of a name


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Summary]:
    """A ledger whose names are all of these."""
    results = tmp_path_factory.mktemp("hostile")
    for number, text in enumerate(HOSTILE):
        about: dict[str, Any] = {"model": text, "defense": text, "arch": text, "dataset": text, "weights": str(number)}
        cells = {"clean": clean(results, **about), text: write(results, text, fooled(0), **about)}
    return results, summarise(cells)


def test_a_hostile_ledger_is_written_out_in_every_format(hostile: tuple[Path, Summary]) -> None:
    results, summary = hostile
    frame = ranking.leaderboard(results)
    texts = {"md": ranking.to_markdown(frame), "csv": ranking.to_csv(frame), "latex": ranking.to_latex(frame)}
    with warnings.catch_warnings(action="ignore"):
        texts["html"] = page.write(page.survey(results), results)
    ranking.write(frame, results)
    for text in (*texts.values(), *(str(report.evaluation(summary, kind)) for kind in ("md", "csv", "json"))):
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f\u200b\u202e\u2066\ufeff]", text)
    assert "<script>alert" not in texts["html"]
    assert set(Texts(MarkdownIt("commonmark").enable("table").render(texts["md"])).tags) == {
        *("h3", "table", "thead", "tbody", "tr", "th", "td")
    }
    for row in csv.reader(io.StringIO(texts["csv"])):
        assert not [cell for cell in row if cell[:1] in "=@\t" and cell]
    read = [line for line in texts["latex"].splitlines() if not line.startswith("%")]
    assert r"\input" not in "\n".join(read)


def test_what_is_wrong_is_said_on_one_line_whatever_its_names(robench: Callable[..., Ran], in_tmp: Path) -> None:
    for text in ("\x1b[31mred", "two\nlines", "\u202etxt"):
        ran = robench("eval", "--model", f"{text}.pt")
        assert ran.code == 2
        assert ran.err == f"robench: there is no checkpoint {cleaned(text)}.pt\n"
