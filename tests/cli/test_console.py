"""What a person sees on a terminal while attacks run."""

import csv
import io
from pathlib import Path

import pytest
from rich.console import Console

import robench as api
from robench.cli import console
from robench.reports import report
from tests.helpers import Trained


def test_the_table_grows_attack_by_attack(
    tmp_path: Path, digits_model: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(console, "stderr", Console(file=screen, force_terminal=True, width=140))
    attacks = ["fgsm", "pgd-10", "rays:queries=40"]
    api.evaluate(
        digits_model.model, attacks=attacks, eps=0.1, n=12, results=tmp_path, progress=console.EvaluationConsole()
    )
    shown = screen.getvalue()
    for word in ("attack", "accuracy [95 %]", "unique", "passes", "seconds", "passes/s"):
        assert word in shown
    before_the_last, _, _ = shown.rpartition("rays")
    assert "fgsm" in before_the_last
    assert "pgd-10" in before_the_last


def test_where_there_is_no_terminal_each_attack_gets_a_line(
    tmp_path: Path, digits_model: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = io.StringIO()
    monkeypatch.setattr(console, "stderr", Console(file=log, force_terminal=False, width=140))
    api.evaluate(
        digits_model.model, attacks=["fgsm"], eps=0.1, n=12, results=tmp_path, progress=console.EvaluationConsole()
    )
    lines = log.getvalue().splitlines()
    assert [line.split()[0] for line in lines] == ["clean", "diagnosis", "fgsm"]


def test_last_iterates_have_a_column_where_they_were_read(tmp_path: Path, digits_model: Trained) -> None:
    read = api.evaluate(digits_model.model, suite="adt", eps=0.02, n=2, results=tmp_path)
    rows = {row["attack"]: row for row in csv.DictReader(io.StringIO(str(report.evaluation(read, "csv"))))}
    assert rows["pgd-20"]["last iterate"] != "-"
    assert rows["feature"]["last iterate"] == "-"
    plain = api.evaluate(digits_model.model, attacks=["fgsm"], eps=0.02, n=2, results=tmp_path)
    assert "last iterate" not in str(report.evaluation(plain, "csv"))
