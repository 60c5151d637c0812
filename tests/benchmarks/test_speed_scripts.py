"""The parts of benchmarks/speed/ that decide what a timing says: scores, ratios, turns."""

from collections.abc import Callable
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from benchmarks.speed import machine, scoring, timing
from benchmarks.speed.scoring import Score
from benchmarks.speed.timing import Times

EPS = 0.25


class Bright(nn.Module):
    """Class 1 where the first pixel is above a half."""

    def forward(self, x: Tensor) -> Tensor:
        first = x.flatten(1)[:, 0]
        return torch.stack([0.5 - first, first - 0.5], 1)


def scored(moved: list[list[float]]) -> Score:
    """Images of two pixels, 0.4 and 0, of class 0, moved to these values."""
    x_adv = torch.tensor(moved)[:, None, None]
    x = torch.tensor([0.4, 0.0]).expand(len(moved), 1, 1, 2)
    return scoring.score(Bright(), x_adv, x, torch.zeros(len(moved), dtype=torch.int64), EPS)


def test_only_what_is_within_the_threat_fools() -> None:
    score = scored(
        [
            [0.6, 0.0],  # over the boundary
            [0.4, 0.0],  # where it was
            [0.66, 0.0],  # over the boundary and out of the ball
            [0.6, -0.01],  # and out of the box
            [0.65 + 5e-7, 0.0],  # out by rounding
            [0.6, float("nan")],
            [0.3, 0.26],  # out, and fools nobody anyway
        ]
    )
    assert score.fooled.tolist() == [True, False, False, False, True, False, False]
    assert score.outside.tolist() == [False, False, True, True, False, True, True]
    assert score.robust == pytest.approx(5 / 7)


def test_the_box_ends_at_one() -> None:
    x = torch.full((2, 1, 1, 1), 0.9)
    x_adv = torch.tensor([1.0, 1.01]).view(2, 1, 1, 1)
    score = scoring.score(Bright(), x_adv, x, torch.zeros(2, dtype=torch.int64), EPS)
    assert score.fooled.tolist() == [True, False]


@pytest.mark.parametrize("given", [torch.zeros(1, 2), torch.zeros(2, 1, dtype=torch.float64), torch.zeros(2)])
def test_other_shapes_and_types_are_refused(given: Tensor) -> None:
    with pytest.raises(ValueError, match="expected float32"):
        scoring.score(Bright(), given, torch.zeros(2, 1), torch.zeros(2, dtype=torch.int64), EPS)


def test_scores_do_not_depend_on_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    moved = [[0.3 + 0.03 * step, 0.0] for step in range(12)]
    whole = scored(moved).fooled
    monkeypatch.setattr(scoring, "BATCH", 5)
    assert torch.equal(scored(moved).fooled, whole)
    assert 0 < int(whole.sum()) < 12


def test_several_attacks_together_fool_whom_any_does() -> None:
    first, second = scored([[0.6, 0.0], [0.4, 0.0], [0.4, 0.0]]), scored([[0.4, 0.0], [0.4, 9.0], [0.4, 0.0]])
    both = scoring.union([first, second])
    assert (both.fooled.tolist(), both.outside.tolist()) == ([True, False, False], [False, True, False])
    assert both.robust == pytest.approx(2 / 3)


def test_a_ratio_is_the_median_of_the_rounds_own() -> None:
    slow_machine_last = Times((1.0, 1.0, 4.0))
    assert Times((2.0, 3.0, 8.0)).over(slow_machine_last) == 2.0
    assert Times((2.0, 3.0, 8.0)).median == 3.0
    with pytest.raises(ValueError, match="argument 2 is longer"):
        Times((1.0,)).over(slow_machine_last)


def test_contestants_take_turns_and_lead_by_turns() -> None:
    order: list[str] = []

    def contestant(name: str) -> Callable[[int], int]:
        def run(number: int) -> int:
            order.append(f"{name}{number}")
            return number

        return run

    given = timing.in_turn({name: contestant(name) for name in "abc"}, 2)
    assert order == ["a0", "b0", "c0", "c1", "b1", "a1"]
    assert given == {"a": [0, 1], "b": [0, 1], "c": [0, 1]}


def test_a_timing_gives_the_result_and_its_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([10.0, 12.5])
    monkeypatch.setattr("time.perf_counter", lambda: next(clock))
    assert timing.timed(lambda: "made") == ("made", 2.5)


def test_the_machine_is_told_in_words() -> None:
    words = machine.in_words(["numpy"])
    assert f"{torch.get_num_threads()} of " in words
    assert " GiB" in words
    assert f"torch {version('torch')}" in words
    assert f"numpy {version('numpy')}" in words
    assert "/" not in words  # no folder


def test_a_later_run_keeps_the_races_that_it_did_not_run_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(Path(timing.__file__).parent)  # its modules import each other as a script's
    record = import_module("record")

    def row(part: str, attack: str, contestant: str, seconds: float, **rest: object) -> object:
        shared = {"dataset": "mnist", "arch": "small_cnn", "eps": "0.30", "images": 500, "rounds": 1}
        times = {"seconds": seconds, "fastest": seconds, "slowest": seconds}
        return record.Row(part=part, attack=attack, contestant=contestant, **shared, **times, **rest)

    file = tmp_path / "attacks.csv"
    assert record.read(file) == []
    first = [row("suite", "all", "peers", 9.0), row("suite", "fgsm", "ours", 1.0, robust=0.5, variant="columns")]
    first += [row("pgd", "pgd-20", "floor", 4.0, batch=64), row("pgd", "pgd-20", "gone", 4.0)]
    first += [row("pgd", "pgd-100", "floor", 8.0)]
    record.write(record.together(first, []), file)
    again = [row("pgd", "pgd-20", "floor", 3.0, batch=32)]
    found = record.together(again, record.read(file))
    assert [(each.attack, each.contestant, each.seconds) for each in found] == [
        ("pgd-100", "floor", 8.0),
        ("pgd-20", "floor", 3.0),
        ("all", "peers", 9.0),
        ("fgsm", "ours", 1.0),
    ]
    record.write(found, file)
    written = file.read_text()
    record.write(record.read(file), file)
    assert file.read_text() == written
    assert ",0.30,500,pgd-20,floor,,32," in written
