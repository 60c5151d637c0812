"""Two models on shared examples, and the seeds of a recipe together."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from robench.ledger.schema import CLEAN
from robench.reports import ranking
from robench.reports.comparison import Comparison, compare
from robench.reports.evaluations import distinctions, runs
from robench.reports.seeds import over_seeds, to_markdown
from robench.utils.errors import UserError
from robench.utils.stats import mcnemar, wilson
from tests.helpers import Ran
from tests.ledgers import clean, fooled, write


def model(results: Path, name: str, *broken: int, **about: Any) -> None:
    """One whose pgd breaks these of the eight examples, beside the last, on which it is wrong when clean."""
    clean(results, model=name, **about)
    write(results, "pgd", fooled(*broken), model=name, **about)


def contests(found: list[Comparison]) -> dict[str, tuple[int, ...]]:
    (only,) = found
    return {each.name: (each.n, each.only_first, each.only_second) for each in only.contests}


def test_who_is_right_where_the_other_is_wrong_is_counted(tmp_path: Path) -> None:
    model(tmp_path, "a", 0, 1, 2)
    model(tmp_path, "b", 2, 3)
    found = compare("a", "b", tmp_path)
    assert contests(found) == {CLEAN: (8, 0, 0), "pgd": (8, 1, 2)}
    pgd = found[0].contests[1]
    assert (pgd.first, pgd.second) == (wilson(4, 8), wilson(5, 8))
    assert pgd.p == mcnemar(1, 2)
    assert contests(compare("b", "a", tmp_path))["pgd"] == (8, 2, 1)


def test_only_shared_examples_and_attacks_count(tmp_path: Path) -> None:
    model(tmp_path, "a", 0)
    model(tmp_path, "b", 1)
    write(tmp_path, "cw", fooled(2), model="a")
    write(tmp_path, "fgsm", fooled(3)[:5], model="a")
    write(tmp_path, "fgsm", fooled(4), model="b")
    assert contests(compare("a", "b", tmp_path)) == {
        CLEAN: (8, 0, 0),
        "pgd": (8, 1, 1),
        "fgsm": (5, 1, 1),
        "worst case": (5, 2, 2),
    }


def test_what_is_not_known_of_both_is_left_out(tmp_path: Path) -> None:
    clean(tmp_path, model="a")
    write(tmp_path, "pgd", [None, *fooled()[1:]], model="a")
    model(tmp_path, "b", 0)
    assert contests(compare("a", "b", tmp_path))["pgd"] == (7, 0, 0)


def test_the_newest_of_a_name_is_compared(tmp_path: Path) -> None:
    model(tmp_path, "a", 0)
    for weights, broken in (("first", (1, 2)), ("second", (1, 2, 3))):
        started = f"2026-0{len(broken)}-01"
        clean(tmp_path, model="b", weights=weights, started=started)
        write(tmp_path, "pgd", fooled(*broken), model="b", weights=weights, started=started)
    assert contests(compare("a", "b", tmp_path))["pgd"] == (8, 3, 1)


def test_survivors_alone_are_no_contest(tmp_path: Path) -> None:
    for name in ("a", "b"):
        model(tmp_path, name, 0)
        write(tmp_path, "square", [None, *fooled(1)[1:]], model=name, unfinished="skipped")
    assert contests(compare("a", "b", tmp_path)) == {CLEAN: (8, 0, 0), "pgd": (8, 0, 0), "worst case": (8, 0, 0)}


def test_each_data_set_and_threat_is_compared_by_itself(tmp_path: Path) -> None:
    for eps in ("0.1", "0.2"):
        model(tmp_path, "a", 0, eps=eps)
        model(tmp_path, "b", 1, eps=eps)
    model(tmp_path, "a", 0, eps="0.3")
    assert sorted(found.threat for found in compare("a", "b", tmp_path)) == ["linf 0.1", "linf 0.2"]


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        ("trades-s0", "trades-s0", "twice"),
        ("trades", "pgd", "beginning of 2 models"),
        ("alp", "trades-s0", "unknown model"),
        ("trades-s0", "elsewhere", "never evaluated on the same data set"),
    ],
)
def test_what_cannot_be_compared_is_said(tmp_path: Path, first: str, second: str, words: str) -> None:
    for name in ("trades-s0", "trades-s1", "pgd_at-s0"):
        model(tmp_path, name)
    model(tmp_path, "elsewhere", eps="0.3")
    with pytest.raises(UserError, match=words):
        compare(first, second, tmp_path)


def test_the_beginning_of_a_name_will_do(tmp_path: Path, robench: Callable[..., Ran]) -> None:
    model(tmp_path, "trades-s0-abc", 0)
    model(tmp_path, "pgd_at-s0-def", 1)
    ran = robench("compare", "trades", "pgd", "--results", tmp_path, "--format", "csv")
    assert ran.code == 0
    assert 'pgd,8,"75.0 [40.9, 92.9]","75.0 [40.9, 92.9]",1,1,1' in ran.out


def recipe(**settings: Any) -> dict[str, Any]:
    return {"name": "trades", "settings": {"beta": 6.0, **settings}, "setup": {"epochs": 10}, "limit": None}


def test_models_of_one_defense_are_told_apart_by_what_differs(tmp_path: Path) -> None:
    for name, settings in {"a": {}, "b": {"beta": 1.0}}.items():
        model(tmp_path, name, defense="trades", recipe=recipe(**settings))
    model(tmp_path, "c", defense="pgd_at", recipe={"name": "pgd_at", "setup": {"epochs": 10}})
    found = {run.about["model"]: told for run, told in zip(runs(tmp_path), distinctions(runs(tmp_path)), strict=True)}
    assert found == {"a": {"beta": 6.0}, "b": {"beta": 1.0}, "c": {}}
    frame = ranking.leaderboard(tmp_path).set_index("model")
    assert frame.loc["b", "settings"] == "beta=1.0"
    assert "b (beta=1.0)" in ranking.to_markdown(frame.reset_index())


def test_seeds_give_means_and_spreads(tmp_path: Path) -> None:
    for seed, broken in enumerate([(0,), (0, 1, 2)]):
        model(tmp_path, f"a{seed}", *broken, defense="trades", recipe=recipe(), train_seed=seed)
    model(tmp_path, "b", 0, defense="trades", recipe=recipe(beta=1.0), train_seed=0)
    model(tmp_path, "theirs")
    means = over_seeds(ranking.leaderboard(tmp_path)).set_index("settings")
    both = means.loc["beta=6.0"]
    assert (both["seeds"], both["n"], both["worst_case"]) == (2, 8, 5 / 8)
    assert both["worst_case_spread"] == pytest.approx(0.25 / 2**0.5)
    assert means["worst_case_spread"].isna().tolist() == [setting == "beta=1.0" for setting in means.index]
    assert len(means) == 2
    assert "| trades beta=6.0 | 2 | 8 | 87.5 ± 0.0 | 62.5 ± 17.7 | 62.5 |" in to_markdown(means.reset_index())


def test_the_worst_class_is_named(tmp_path: Path) -> None:
    model(tmp_path, "a", 0, 1)
    (run,) = runs(tmp_path)
    (only,) = run.summary.classes
    assert (only.label, only.n, only.clean, only.worst_case) == (0, 8, wilson(7, 8), wilson(5, 8))
    assert run.summary.worst_class == only
