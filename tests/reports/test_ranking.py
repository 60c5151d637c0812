"""Summaries, verdicts and the leaderboard, from ledgers written by hand."""

import io
import json
import math
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest

from robench.ledger.cell import Cell
from robench.ledger.schema import DIAGNOSIS
from robench.ledger.summary import Summary, summarise
from robench.reports import ranking, report
from robench.reports.evaluations import LedgerWarning
from robench.reports.formats import Format
from robench.utils.errors import UserError
from robench.utils.stats import Bounds, wilson
from tests.helpers import Ran
from tests.ledgers import CLEAN, clean, fooled, write


def by_name(*cells: Cell) -> dict[str, Cell]:
    return {cell.about["attack"]: cell for cell in cells}


def test_the_worst_case_is_taken_example_by_example(tmp_path: Path) -> None:
    cells = by_name(clean(tmp_path), write(tmp_path, "a", fooled(0, 1)), write(tmp_path, "b", fooled(1, 2)))
    summary = summarise(cells)
    assert summary.clean == wilson(7, 8)
    assert summary.attacks["a"].accuracy == wilson(5, 8)
    assert summary.attacks["a"].kills == 2
    assert summary.worst_case == wilson(4, 8)
    assert summarise(cells, 2).worst_case == wilson(0, 2)


def test_errors_are_neither_robust_nor_fooled(tmp_path: Path) -> None:
    broken: list[bool | None] = [None, *fooled(1)[1:]]
    summary = summarise(by_name(clean(tmp_path), write(tmp_path, "a", broken)))
    assert summary.attacks["a"].accuracy is None
    assert summary.attacks["a"].bounds == Bounds(wilson(5, 8), wilson(6, 8))
    assert (summary.attacks["a"].n_run, summary.attacks["a"].errors) == (7, 1)
    assert (summary.worst_case, summary.worst_case_bounds) == (None, Bounds(wilson(5, 8), wilson(6, 8)))
    assert report.gate_failures(summary, 0.0)
    both = summarise(by_name(clean(tmp_path), write(tmp_path, "a", broken), write(tmp_path, "b", fooled(0))))
    assert (both.worst_case, both.worst_case_bounds) == (wilson(5, 8), None)  # that b broke example 0 is known
    assert summary.verdict.reliable is False
    assert "a ended in an error on 1 of 8 examples" in summary.verdict.reasons[0]


def test_every_accuracy_is_over_the_examples_that_all_attacks_have(tmp_path: Path) -> None:
    cells = by_name(clean(tmp_path), write(tmp_path, "a", fooled(0, 5)), write(tmp_path, "b", fooled(1)[:4]))
    summary = summarise(cells)
    assert summary.n == 4
    assert summary.clean == wilson(4, 4)
    assert summary.attacks["a"].accuracy == wilson(3, 4)
    assert summary.worst_case == wilson(2, 4)


def test_an_attack_that_never_ran_has_no_accuracy(tmp_path: Path) -> None:
    summary = summarise(by_name(clean(tmp_path), write(tmp_path, "a", [None] * 8)))
    assert summary.attacks["a"].accuracy is None
    assert summary.worst_case is None
    document = summary.to_json()
    assert document["attacks"]["a"]["accuracy"] is None
    assert document["worst_case"] == {"accuracy": None, "low": 0.0, "high": 1.0, "at_least": 0.0, "at_most": 1.0}


def test_one_step_that_beats_many_is_flagged(tmp_path: Path) -> None:
    n = 200

    def breaking(count: int) -> list[bool]:
        return [i < count or not (CLEAN * n)[i] for i in range(n)]

    right = write(tmp_path, "clean", [not (CLEAN * n)[i] for i in range(n)], backwards=0)
    one, many = write(tmp_path, "fgsm", breaking(60), backwards=1), write(tmp_path, "pgd", breaking(20))
    assert summarise(by_name(right, one, many)).verdict.reliable is False
    assert summarise(by_name(right, write(tmp_path, "weak", breaking(20), backwards=1), many)).verdict.reliable is None


def test_a_black_box_attack_that_beats_all_gradients_is_flagged(tmp_path: Path) -> None:
    n = 200
    right = (CLEAN * n)[:n]

    def breaking(first: int, last: int) -> list[bool]:
        return [first <= i < last or not right[i] for i in range(n)]

    cells = [write(tmp_path, "clean", [not value for value in right], backwards=0)]
    cells += [write(tmp_path, "pgd", breaking(0, 30)), write(tmp_path, "cw", breaking(30, 60))]
    weak = write(tmp_path, "spsa", breaking(0, 64), backwards=0, queries=9)
    assert summarise(by_name(*cells, weak)).verdict.reliable is None
    strong = write(tmp_path, "rays", breaking(0, 90), backwards=0, queries=9)
    reasons = summarise(by_name(*cells, strong)).verdict.reasons
    assert len(reasons) == 1
    assert reasons[0].startswith("rays, without gradients")


def test_in_worst_case_mode_what_a_black_box_attack_breaks_beyond_all_gradients_is_flagged(tmp_path: Path) -> None:
    n = 200
    right = (CLEAN * n)[:n]
    broken = [i < 60 or not right[i] for i in range(n)]
    cells = [write(tmp_path, "clean", [not value for value in right], backwards=0), write(tmp_path, "pgd", broken)]
    beyond = [None if broken[i] else i < 90 for i in range(n)]
    rays = write(tmp_path, "rays", beyond, backwards=0, queries=9, unfinished="skipped")
    summary = summarise(by_name(*cells, rays), mode="worst-case")
    assert summary.n == n
    assert summary.worst_case == wilson(sum(right[90:]), n)
    assert summary.attacks["rays"].accuracy is None
    assert summary.verdict.reliable is False
    spared = [None if broken[i] or i < 90 else False for i in range(n)]  # of what rays had broken as well
    square = write(tmp_path, "square", spared, backwards=0, queries=9, unfinished="skipped")
    reasons = summarise(by_name(*cells, rays, square), mode="worst-case").verdict.reasons
    assert [reason.partition(",")[0] for reason in reasons] == ["rays"]  # who broke nothing is not named


def test_a_skipped_example_is_broken_whoever_broke_it(tmp_path: Path) -> None:
    skipped: list[bool | None] = [None, None, *fooled()[2:]]
    summary = summarise(by_name(clean(tmp_path), write(tmp_path, "late", skipped, unfinished="skipped")))
    assert summary.worst_case == wilson(5, 8)


def test_errors_on_all_that_could_be_attacked_leave_no_accuracy(tmp_path: Path) -> None:
    erred = [None if right else True for right in CLEAN]
    summary = summarise(by_name(clean(tmp_path), write(tmp_path, "a", erred)))
    assert summary.attacks["a"].accuracy is None
    assert summary.worst_case is None


def test_a_quick_look_at_a_few_examples_does_not_replace_a_wide_run(tmp_path: Path) -> None:
    clean(tmp_path)
    write(tmp_path, "pgd-20", fooled(0, 1))
    write(tmp_path, "pgd-20", fooled()[:1], started="2026-03-01")
    frame = ranking.leaderboard(tmp_path)
    assert frame["n"].tolist() == [8]
    assert frame["pgd-20"].tolist() == [5 / 8]


def test_json_has_the_promised_words(tmp_path: Path) -> None:
    summary = summarise(by_name(clean(tmp_path), write(tmp_path, "a", fooled(0))))
    document = json.loads(str(report.evaluation(summary, "json")))
    assert list(document) == [
        *("model", "dataset", "threat", "n", "mode", "clean", "attacks", "worst_case", "classes", "diagnosis"),
        *("verdict", "skipped", "ledger"),
    ]
    assert set(document["attacks"]["a"]) >= {
        *("accuracy", "accuracy_final", "low", "high", "n_run", "kills", "invalid", "errors"),
        *("seconds", "forwards", "backwards", "queries"),
    }
    assert set(document["verdict"]) == {"reliable", "reasons"}
    assert "NaN" not in json.dumps(document)


@pytest.mark.parametrize(("format", "start"), [("csv", "attack,accuracy"), ("md", "| attack |")])
def test_other_formats(tmp_path: Path, format: Format, start: str) -> None:
    text = report.evaluation(summarise(by_name(clean(tmp_path), write(tmp_path, "a", fooled(0)))), format)
    assert str(text).startswith(start)
    assert "worst case" in str(text)


def test_the_gate_holds_against_the_lower_end(tmp_path: Path) -> None:
    summary = summarise(by_name(clean(tmp_path), write(tmp_path, "a", fooled(0))))
    assert summary.worst_case is not None
    assert report.gate_failures(summary, summary.worst_case.low) == []
    assert report.gate_failures(summary, summary.worst_case.value) == ["the interval's lower end 40.9 % is below 75 %"]


def test_an_unreliable_verdict_fails_the_gate(tmp_path: Path) -> None:
    summary: Summary = summarise(by_name(clean(tmp_path), write(tmp_path, "a", fooled(0), status="invalid")))
    assert report.gate_failures(summary, 0.0)


RECIPE: Mapping[str, Any] = {"name": "trades", "settings": {"beta": 6}}


def test_the_leaderboard_ranks_within_data_set_and_threat(tmp_path: Path) -> None:
    for model, broken, eps in (("weak", (0, 1, 2), "0.1"), ("strong", (0,), "0.1"), ("other", (0, 1), "0.2")):
        clean(tmp_path, model=model, eps=eps)
        write(tmp_path, "pgd-20", fooled(*broken), model=model, eps=eps)
    write(tmp_path, "fgsm", fooled(), model="other", eps="0.2")
    frame = ranking.leaderboard(tmp_path)
    assert frame.columns.tolist() == [*ranking.FIXED, "fgsm", "pgd-20"]
    assert frame["model"].tolist() == ["strong", "weak", "other"]
    assert frame["threat"].tolist() == ["linf 0.1", "linf 0.1", "linf 0.2"]
    assert frame["worst_case"].tolist() == [6 / 8, 4 / 8, 5 / 8]
    assert math.isnan(frame["fgsm"][0])
    assert frame["fgsm"][2] == 7 / 8
    read = pd.read_csv(io.StringIO(ranking.to_csv(frame)))
    assert read["worst_case"].tolist() == frame["worst_case"].tolist()
    markdown = ranking.to_markdown(frame)
    assert markdown.count("### toy") == 2
    assert "| 75.0 [" in markdown


def test_of_two_trainings_of_one_recipe_the_newest_is_shown(tmp_path: Path) -> None:
    for model, started, seed in (("old", "2026-01-01", 0), ("new", "2026-02-01", 0), ("second", "2026-01-15", 1)):
        trained: dict[str, Any] = {"recipe": dict(RECIPE), "defense": "trades", "train_seed": seed}
        clean(tmp_path, model=model, started=started, **trained)
        write(tmp_path, "pgd-20", fooled(0), model=model, started=started, **trained)
    assert sorted(ranking.leaderboard(tmp_path)["model"]) == ["new", "second"]


def test_of_two_runs_of_one_attack_the_newest_counts(tmp_path: Path) -> None:
    clean(tmp_path)
    write(tmp_path, "pgd-20", fooled(0, 1), started="2026-02-01")
    write(tmp_path, "pgd-20", fooled(0), started="2026-01-01")
    assert ranking.leaderboard(tmp_path)["pgd-20"].tolist() == [5 / 8]


def test_a_cell_that_was_only_begun_is_left_out(tmp_path: Path) -> None:
    clean(tmp_path)
    write(tmp_path, "pgd-20", fooled(0))
    write(tmp_path, "mim", [])
    clean(tmp_path, model="begun")
    for part in write(tmp_path, "clean", [], model="empty").path.glob("part-*"):
        part.unlink()
    frame = ranking.leaderboard(tmp_path)
    assert frame["model"].tolist() == ["m", "begun"]
    assert frame.columns.tolist() == [*ranking.FIXED, "pgd-20"]


def test_an_empty_ledger_says_what_fills_it(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="robench bench quickstart"):
        ranking.leaderboard(tmp_path)


def test_cells_that_cannot_be_read_are_left_out_and_named(tmp_path: Path, robench: Callable[..., Ran]) -> None:
    clean(tmp_path, model="whole")
    write(tmp_path, "pgd", fooled(0), model="whole")
    half = write(tmp_path, "fgsm", fooled(1), model="whole")
    (part,) = half.path.glob("part-*.parquet")
    part.write_bytes(part.read_bytes()[:40])
    torn = write(tmp_path, "cw", fooled(2), model="whole")
    (torn.path / "cell.json").write_text('{"key": ')
    with pytest.warns(LedgerWarning) as warned:
        frame = ranking.leaderboard(tmp_path)
    assert [str(each.message).startswith("left out: ") for each in warned] == [True, True]
    assert "fgsm" not in frame
    assert frame["pgd"].tolist() == [6 / 8]
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        ran = robench("leaderboard", "--results", tmp_path)
    assert ran.code == 0
    assert str(half.path) in ran.err.replace("\n", "")
    assert "remove" in ran.err


def empty(part: str) -> Callable[[Cell], None]:
    def damage(cell: Cell) -> None:
        document = json.loads((cell.path / "cell.json").read_text())
        (cell.path / "cell.json").write_text(json.dumps({**document, part: {}}))

    return damage


def lose_a_column(cell: Cell) -> None:
    (part,) = cell.path.glob("part-*.parquet")
    pq.write_table(pq.ParquetFile(part).read().drop_columns(["label"]), part)


@pytest.mark.parametrize("damage", [empty("about"), empty("key"), empty("run"), lose_a_column])
def test_whatever_is_wrong_with_a_cell_the_others_are_shown(tmp_path: Path, damage: Callable[[Cell], None]) -> None:
    clean(tmp_path)
    write(tmp_path, "pgd", fooled(0))
    damage(write(tmp_path, "fgsm", fooled(1)))
    with pytest.warns(LedgerWarning, match="left out: .*remove"):
        frame = ranking.leaderboard(tmp_path)
    assert frame["pgd"].tolist() == [6 / 8]
    assert "fgsm" not in frame


@pytest.mark.parametrize("found", ["[1, 2]", "{}", '{"probed": 3', '{"probed": 3, "standing": {}}'])
def test_a_diagnosis_that_is_none_is_left_out(tmp_path: Path, found: str) -> None:
    clean(tmp_path)
    write(tmp_path, "pgd", fooled(0))
    (write(tmp_path, DIAGNOSIS, [])).path.joinpath("found.json").write_text(found)
    with pytest.warns(LedgerWarning, match=r"found\.json"):
        frame = ranking.leaderboard(tmp_path)
    assert frame["worst_case"].tolist() == [6 / 8]


def test_a_training_that_was_not_attacked_hides_none_that_was(tmp_path: Path) -> None:
    recipe = {"name": "trades"}
    for weights, started in (("first", "2026-01-01"), ("second", "2026-02-01")):
        clean(tmp_path, weights=weights, started=started, recipe=recipe)
    write(tmp_path, "pgd", fooled(0), weights="first", recipe=recipe)
    assert ranking.leaderboard(tmp_path)["pgd"].tolist() == [6 / 8]
    write(tmp_path, "pgd", fooled(0, 1), weights="second", started="2026-02-01", recipe=recipe)
    assert ranking.leaderboard(tmp_path)["pgd"].tolist() == [5 / 8]


def test_unique_kills_are_those_of_one_attack_alone(tmp_path: Path) -> None:
    cells = by_name(clean(tmp_path), write(tmp_path, "a", fooled(0, 1, 2)), write(tmp_path, "b", fooled(2, 3)))
    assert {name: (each.kills, each.unique) for name, each in summarise(cells).attacks.items()} == {
        "a": (3, 2),
        "b": (2, 1),
    }
