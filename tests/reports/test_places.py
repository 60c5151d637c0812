"""What is ranked together: the same battery on the same examples, however the radius was written."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from robench.reports import ranking
from robench.reports.comparison import compare
from robench.reports.evaluations import runs
from tests.helpers import Ran
from tests.ledgers import clean, fooled, write


def model(
    results: Path, name: str, *broken: int, n: int = 8, attacks: tuple[str, ...] = ("pgd",), **about: Any
) -> None:
    clean(results, model=name, **about)
    for attack in attacks:
        write(results, attack, fooled(*broken)[:n], model=name, **about)


def ranks(results: Path) -> dict[str, Any]:
    frame = ranking.leaderboard(results)
    return {row["model"]: None if pd.isna(row["rank"]) else row["rank"] for _, row in frame.iterrows()}


def test_a_weak_battery_on_few_images_is_ranked_above_no_strong_one(tmp_path: Path) -> None:
    model(tmp_path, "thorough", 0, 1, attacks=("pgd", "cw"))
    model(tmp_path, "glance", n=3, attacks=("fgsm",))
    frame = ranking.leaderboard(tmp_path)
    assert frame["model"].tolist() == ["thorough", "glance"]
    assert ranks(tmp_path) == {"thorough": 1, "glance": None}
    assert frame["battery"].tolist() == ["cw, pgd on 8", "fgsm on 3"]
    assert "no other model met this battery" in frame["note"][1]
    for text in (ranking.to_markdown(frame), ranking.to_latex(frame)):
        assert "not comparable with the rows above" in text


@pytest.mark.parametrize("other", [{"attacks": ("pgd", "cw")}, {"n": 5}])
def test_another_battery_or_other_examples_stand_apart(tmp_path: Path, other: dict[str, Any]) -> None:
    for name in ("a", "b"):
        model(tmp_path, name, 0, 1)
    model(tmp_path, "c", **other)
    assert ranks(tmp_path) == {"a": 1, "b": 1, "c": None}
    sections = ranking.leaderboard(tmp_path).groupby("battery")["model"].agg(sorted).tolist()
    assert sorted(sections) == [["a", "b"], ["c"]]


def test_the_same_attack_with_other_settings_is_another_battery(tmp_path: Path) -> None:
    for name, steps in (("a", 10), ("b", 20)):
        clean(tmp_path, model=name)
        write(tmp_path, "pgd", fooled(0), model=name, settings={"steps": steps})
    assert sorted(ranking.leaderboard(tmp_path)["battery"]) == ["pgd on 8", "pgd on 8 (2)"]


def test_equal_rows_share_a_rank_and_seeds_stand_together(tmp_path: Path) -> None:
    for name, broken in {"a": (0,), "b": (1,), "d": (0, 1, 2, 3)}.items():
        model(tmp_path, name, *broken)
    for seed, broken in enumerate([(), (0, 1, 2, 3)]):
        recipe: dict[str, Any] = {"recipe": {"name": "trades"}, "defense": "trades", "train_seed": seed}
        model(tmp_path, f"seed{seed}", *broken, **recipe)
    assert ranks(tmp_path) == {"a": 1, "b": 1, "seed0": 3, "seed1": 3, "d": 5}
    assert ranking.leaderboard(tmp_path)["model"].tolist() == ["a", "b", "seed0", "seed1", "d"]


def test_what_met_a_minimum_is_ranked_whatever_else_it_met(tmp_path: Path) -> None:
    model(tmp_path, "a", 0, attacks=("autoattack",))
    model(tmp_path, "b", 0, 1, attacks=("autoattack", "pgd"))
    assert ranks(tmp_path) == {"a": 1, "b": 2}
    assert set(ranking.leaderboard(tmp_path)["battery"]) == {"autoattack or more on 8"}


def test_a_row_with_errors_has_bounds_and_no_rank(tmp_path: Path) -> None:
    model(tmp_path, "whole", 0)
    clean(tmp_path, model="torn")
    write(tmp_path, "pgd", [None, None, *fooled()[2:]], model="torn")
    frame = ranking.leaderboard(tmp_path).set_index("model")
    torn = frame.loc["torn"]
    assert pd.isna(torn["worst_case"])
    assert (torn["at_least"], torn["at_most"]) == (5 / 8, 7 / 8)
    assert "errors, so that the worst case is unknown: 62.5 to 87.5 %" in torn["note"]
    assert "unknown (62.5 to 87.5)" in ranking.to_markdown(frame.reset_index())
    assert ranks(tmp_path) == {"whole": 1, "torn": None}


@pytest.mark.parametrize("writings", [(".3", "0.3"), ("2/255", "0.0078431372549", "0.0078431"), ("0.50", "1/2")])
def test_a_radius_is_one_however_it_is_written(tmp_path: Path, writings: tuple[str, ...]) -> None:
    for name, eps in zip("abc", writings, strict=False):
        model(tmp_path, name, eps=eps)
    frame = ranking.leaderboard(tmp_path)
    assert frame["threat"].nunique() == 1
    assert frame["rank"].tolist() == [1] * len(writings)
    assert compare("a", "b", tmp_path)[0].threat == frame["threat"][0]


def test_one_model_at_one_radius_is_one_row_however_that_is_written(tmp_path: Path) -> None:
    for eps in ("2/255", "0.0078431372549"):
        model(tmp_path, "m", 0, eps=eps)
    assert len(ranking.leaderboard(tmp_path)) == 1


def test_a_training_says_which_it_supersedes(tmp_path: Path, robench: Callable[..., Ran]) -> None:
    for day in (1, 2, 3):
        trained: dict[str, Any] = {
            "recipe": {"name": "trades"},
            "defense": "trades",
            "train_seed": 0,
            "weights": f"w{day}",
        }
        model(tmp_path, f"t{day}", day, started=f"2026-01-0{day}", **trained)
    (run,) = runs(tmp_path)
    assert run.about["model"] == "t3"
    words = "supersedes 2 earlier trainings of the same recipe and seed, attacked 2026-01-01 to 2026-01-02"
    for format in ("md", "csv", "json", "html", "latex"):
        assert words in robench("leaderboard", "--format", format, "--results", tmp_path).out, format
    assert json.loads(robench("leaderboard", "--format", "json", "--results", tmp_path).out)[0]["rank"] == 1


TORN = """
from robench.search import sees
@sees("scores")
def torn(search):
    if len(search.x) > 4: raise ValueError("no more than 4")
"""


ALWAYS_0 = """
import torch
def net():
    layer = torch.nn.Linear(64, 10)
    torch.nn.init.zeros_(layer.weight)
    layer.bias.data = 5 * torch.eye(10)[0]
    return torch.nn.Sequential(torch.nn.Flatten(), layer)
"""


def test_eval_with_errors_ends_with_1_and_says_which(in_tmp: Path, robench: Callable[..., Ran]) -> None:
    Path("torn.py").write_text(TORN)
    Path("nets.py").write_text(ALWAYS_0)
    command = ("eval", "--model", "nets.py:net", "--eps", "0.1", "--n", 100, "--format", "json", "--attack")
    ran = robench(*command, "torn.py")
    right = round(100 * json.loads(ran.out)["clean"]["accuracy"])
    assert right > 4
    assert ran.code == 1
    assert f"torn ended in an error on {right} of 100 examples: ValueError: no more than 4" in ran.err
    worst = json.loads(ran.out)["worst_case"]
    assert (worst["accuracy"], worst["at_least"]) == (None, 0.0)
    assert worst["at_most"] <= right / 100
    assert robench(*command, "fgsm").code == 0
