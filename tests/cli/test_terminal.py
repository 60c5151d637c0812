"""What stands on a terminal of 80 columns and 24 rows, and in a pipe."""

import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from robench import api
from robench.cli import console
from robench.cli.main import main
from robench.cli.output import emit
from robench.reports import report
from robench.reports.sheet import Sheet
from tests.helpers import Ran, Trained
from tests.ledgers import clean, write
from tests.terminals import Screen, terminal

QUICK = ("cw-30", "fgsm", "mim", "pgd-100", "pgd-20", "rays")


def on_screen(*arguments: object, columns: int = 80, rows: int = 24) -> Screen:
    """Runs the command line on a terminal."""
    with pytest.MonkeyPatch.context() as patch, terminal(columns, rows) as screen:
        patch.setattr(sys, "argv", ["robench", *map(str, arguments)])
        with suppress(SystemExit):
            main()
    assert not screen.wrapped
    assert "…" not in screen.text
    return screen


@pytest.fixture
def six_models(tmp_path: Path) -> Path:
    """The ledger of six trained defenses under a battery."""
    for number, defense in enumerate(("standard", "pgd_at", "trades", "ald_pgd", "ald_trades", "adt_exp")):
        about: dict[str, Any] = {
            "model": f"digits-{defense}-s0-0a1b2{number}",
            "defense": defense,
            "recipe": {"name": defense},
            "train_seed": 0,
            "trained_on": "digits",
        }
        clean(tmp_path, **about)
        for attack in QUICK:
            write(tmp_path, attack, [place < number for place in range(7)] + [True], **about)
    return tmp_path


@pytest.mark.parametrize("columns", [60, 80, 200])
def test_a_leaderboard_has_short_names_and_every_number(six_models: Path, columns: int) -> None:
    screen = on_screen("leaderboard", "--results", six_models, columns=columns)
    lines = screen.text.splitlines()
    headers = [line.split() for line in lines if line.startswith("#")]
    assert [header[1] for header in headers] == ["model"] * len(headers)
    assert [name for header in headers for name in header if name in QUICK] == list(QUICK)
    assert (len(headers) == 1) == (columns == 200)
    for header in headers:
        top = next(place for place, line in enumerate(lines) if line.split() == header)
        assert [line.split()[1:3] for line in lines[top + 2 : top + 8]] == [
            [name, "s0"] for name in ("standard", "pgd_at", "trades", "ald_pgd", "ald_trades", "adt_exp")
        ]


def test_a_pipe_gets_lines_of_any_length(six_models: Path, robench: Callable[..., Ran]) -> None:
    ran = robench("leaderboard", "--results", six_models)
    assert {"verdict", *QUICK} <= set(next(line for line in ran.out.splitlines() if line.startswith("#")).split())
    assert "…" not in ran.out


def test_what_is_printed_can_go_to_a_file_and_little_be_said(
    six_models: Path, robench: Callable[..., Ran], in_tmp: Path
) -> None:
    for command in (("leaderboard", "--format", "csv"), ("compare", "digits-trades", "digits-pgd_at")):
        printed = robench(*command, "--results", six_models)
        kept = robench(*command, "--results", six_models, "--output", "kept", "--quiet")
        assert (kept.code, kept.out, kept.err) == (0, "", "")
        assert (in_tmp / "kept").read_text() == printed.out != ""
    nowhere = robench("leaderboard", "--results", six_models, "--output", "no/such")
    assert nowhere.code == 2
    assert "--output no/such" in nowhere.err
    assert "Traceback" in robench("leaderboard", "-v", "--results", in_tmp / "nothing").err
    assert "complete" in robench("--show-completion", "bash").out


def test_an_evaluation_fits_80_columns_and_shows_no_column_of_zeros(tmp_path: Path, digits_model: Trained) -> None:
    with terminal() as screen:
        summary = api.evaluate(
            digits_model.model,
            attacks=["fgsm", "pgd-10"],
            eps=0.1,
            n=20,
            results=tmp_path,
            progress=console.EvaluationConsole(),
        )
        emit(report.evaluation(summary, "table"))
    assert not screen.wrapped
    title, _, header, rule, *lines = screen.text.splitlines()
    assert title.endswith("(accuracies in %)")
    assert header.split()[:4] == ["attack", "accuracy", "[95", "%]"]
    assert not {"invalid", "errors"} & set(header.split())
    assert [line.split()[0] for line in lines[:3]] == ["clean", "fgsm", "pgd-10"]
    assert len(rule) <= 80


@pytest.mark.parametrize("columns", [20, 40, 79, 80, 200])
@pytest.mark.parametrize("names", [("pgd-20",), ("a-name-that-is-longer-than-all-that-a-narrow-screen-has", "b")])
def test_a_sheet_loses_nothing_at_any_width(columns: int, names: Sequence[str]) -> None:
    header = ["attack", *(f"column{place}" for place in range(12))]
    rows = [[name, *(f"{line}.{place}" for place in range(12))] for line, name in enumerate(names)]
    with terminal(columns) as screen:
        console.Terminal().print(Sheet("title", header, rows, ["a note of several words" * 4]))
    assert not screen.wrapped
    shown = screen.text.split()
    for cell in (*header[1:], *(cell for row in rows for cell in row[1:])):
        assert shown.count(cell) == 1
    assert "…" not in screen.text


def test_a_live_table_leaves_no_piece_behind(tmp_path: Path, digits_model: Trained) -> None:
    attacks = [f"pgd-10:restarts={count}" for count in (1, 2, 3)]
    with terminal(rows=8) as screen:  # fewer than the table has
        reporter = console.ConsoleReporter()
        reporter.model(3, 6)
        api.evaluate(
            digits_model.model, attacks=attacks, eps=0.02, n=12, results=tmp_path, progress=reporter.evaluation()
        )
    assert not screen.wrapped
    assert screen.text == ""
    assert "model 3 of 6" in screen.written
    assert attacks[1] in screen.written


def test_an_evaluations_bar_moves_within_a_batch(tmp_path: Path, digits_model: Trained) -> None:
    done = list[float]()

    class Noted(console.EvaluationConsole):
        def active(self, examples: int, passes: int, done_so_far: float) -> None:
            super().active(examples, passes, done_so_far)
            done.append(self._bar.tasks[0].completed)

    api.evaluate(digits_model.model, attacks=["pgd-10"], eps=0.001, n=12, results=tmp_path, progress=Noted())
    of_pgd = done[-10:]
    assert of_pgd == sorted(of_pgd)
    assert len(set(of_pgd)) == 10
    assert of_pgd[0] < 3 < 8 < of_pgd[-1] < 12


def test_a_trainings_bar_survives_the_held_out_text() -> None:
    with terminal(60) as screen:
        bar = console.TrainingConsole()
        bar.begin("ald_trades", 10, 0)
        bar.epoch({"epoch": 1, "loss": 1.2345, "clean": 0.95, "robust": 0.61})
        bar.advance(5, 1.25, 4000)
        bar._live.refresh()
        bar.end()
    assert not screen.wrapped
    assert screen.text == ""
    shown = screen.written
    assert "━" in shown
    assert " 50%" in shown
    assert "held out: clean 0.950, PGD-10 0.610" in shown


def test_what_is_told_ends_its_lines_between_words() -> None:
    with terminal() as screen:
        console.stderr.print("pgd-20, " * 30)
    assert not screen.wrapped
    assert set(screen.text.split()) == {"pgd-20,"}
