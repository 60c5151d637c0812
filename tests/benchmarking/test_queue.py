"""The queue: what it says, that it stops in time and goes on to the bit, and what it knows and foretells."""

from collections.abc import Callable, Iterator
from itertools import count, cycle
from math import inf
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
import yaml

import robench as package
from robench.benchmarking import forecast, queue
from robench.benchmarking.progress import steps_of
from robench.benchmarking.workspace import Workspace
from robench.data import datasets
from robench.evaluation import estimate
from robench.ledger.store import Ledger
from robench.models import checkpoint
from robench.specs import benchmark
from robench.specs.queue import load
from robench.training import loop, recipe
from robench.training.plan import Plan
from robench.utils import registry
from robench.utils.deadline import Deadline, OutOfTime, seconds
from robench.utils.errors import UserError
from tests.helpers import Ran

EXAMPLES = 20
STEPS = 64
"""Four epochs of 512 images in batches of 32."""


def written(path: Path, items: dict[str, Any], **changes: Any) -> str:
    digits = {
        "dataset": "digits",
        "eps": 0.2,
        "limit": 512,
        "train": {"epochs": 4, "lr": 0.1, "batch_size": 32},
        "evaluations": {"white_box": {"attacks": ["fgsm", "pgd-10"], "n": EXAMPLES}},
        **changes,
    }
    lacking = {**digits, "dataset": "parquet:nowhere"}
    path.write_text(yaml.safe_dump({"shared": {"digits": digits, "lacking": lacking}, "queue": items}))
    return str(path)


def item(defense: str = "standard", like: str = "digits", **settings: Any) -> dict[str, Any]:
    return {"like": like, "defense": defense, "set": settings}


def ticking(stop_at: float) -> Deadline:
    """One that passes when it has been asked so often."""
    ticks = count()
    return Deadline(stop_at, lambda: float(next(ticks)))


def outcomes(report: queue.Report) -> list[tuple[str, str]]:
    return [(outcome.item, outcome.state) for outcome in report.outcomes]


def trained_weights(results: str) -> dict[str, torch.Tensor]:
    (path,) = Path(results, "checkpoints").glob("*.pt")
    state: dict[str, torch.Tensor] = checkpoint.read(path)["weights"]
    return state


def rows(results: str) -> dict[str, pd.DataFrame]:
    return {cell.path.name: cell.rows().drop(columns="seconds") for cell in Ledger(results).cells()}


def files(folder: str) -> dict[str, float]:
    return {str(path): path.stat().st_mtime_ns for path in Path(folder).rglob("*") if path.is_file()}


# Time


@pytest.mark.parametrize(("text", "expected"), [("20m", 1200), ("90s", 90), ("1h30m", 5400), ("2h0m5s", 7205)])
def test_durations(text: str, expected: float) -> None:
    assert seconds(text) == expected


@pytest.mark.parametrize("text", ["", "20", "m", "0s", "-5m", "1.5h", "30m1h", "20 minutes"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(UserError, match="expected a duration above 0 such as 20m"):
        seconds(text)


def test_a_budget_keeps_time_for_the_end() -> None:
    assert Deadline.within("10m", lambda: 100.0).at == 100 + 600 - 20
    assert Deadline.within("60s", lambda: 100.0).at == 100 + 60 - 6


@pytest.mark.parametrize("stop_after", [3, 4, 7])  # within an epoch, at its end, before the last step
def test_a_training_stops_between_two_steps_and_resumes_to_the_bit(stop_after: int, tmp_path: Path) -> None:
    split = datasets.load("digits", "train")
    resolved = recipe.resolve("trades", "digits", split.shape, {"epochs": 2, "eps_warmup": 1, "steps": 3})
    plan = Plan(resolved, "digits", split, limit=256)
    whole = loop.train(plan, tmp_path / "whole.pt")
    cut = tmp_path / "cut.pt"
    with pytest.raises(OutOfTime):
        loop.train(plan, cut, deadline=ticking(stop_after - 1))
    assert checkpoint.read(tmp_path / "cut.pt.state")["step"] == stop_after
    assert not cut.exists()
    assert loop.train(plan, cut, resume=True) == whole
    a, b = (checkpoint.read(tmp_path / name)["weights"] for name in ("whole.pt", "cut.pt"))
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_a_training_done_in_time_ends_whatever_the_clock_says(tmp_path: Path) -> None:
    split = datasets.load("digits", "train")
    plan = Plan(recipe.resolve("standard", "digits", split.shape, {"epochs": 1}), "digits", split, limit=128)
    loop.train(plan, tmp_path / "m.pt", deadline=ticking(1))  # passes as the second and last step ends


# The queue at work


def test_a_queue_cut_anywhere_ends_as_one_that_was_not(in_tmp: Path) -> None:
    name = written(Path("mine.yaml"), {"a": item("ald_trades", particles=2, steps=3)})
    ticks = count()
    whole = queue.run(name, Workspace.of("whole"), deadline=Deadline(inf, lambda: float(next(ticks))))
    assert outcomes(whole) == [("a", "done")]
    assert whole.next is None
    details = []
    for asked in (39, next(ticks) - 40 - 5):  # 40 steps; the others, FGSM, and all but the end of PGD-10
        report = queue.run(name, Workspace.of("cut"), deadline=ticking(asked))
        assert (outcomes(report), report.next) == ([("a", "stopped")], "a")
        details.append(report.outcomes[0].detail)
        assert not Path("cut/leaderboard.md").exists()
    assert details == [f"training at {100 * 40 / STEPS:.0f} %", "evaluation at 67 %"]
    report = queue.run(name, Workspace.of("cut"))
    a, b = trained_weights("whole"), trained_weights("cut")
    assert all(torch.equal(a[name], b[name]) for name in a)
    first, second = rows("whole"), rows("cut")
    assert first.keys() == second.keys()
    for cell in first:
        pd.testing.assert_frame_equal(first[cell], second[cell])
    assert report.outcomes[0].detail == whole.outcomes[0].detail


def test_a_librarys_attack_is_stopped_too(in_tmp: Path) -> None:
    """It makes a hundred steps in one call, of which the engine learns nothing."""
    evaluations = {"strong": {"attacks": ["fgsm", "apgd-ce"], "n": EXAMPLES}}
    name = written(Path("mine.yaml"), {"a": item()}, evaluations=evaluations)
    ticks = count()
    queue.run(name, Workspace.of("whole"), deadline=Deadline(inf, lambda: float(next(ticks))))
    again = queue.run(name, Workspace.of("cut"), deadline=ticking(next(ticks) - 30))
    assert outcomes(again) == [("a", "stopped")]
    assert again.outcomes[0].detail == "evaluation at 67 %"  # clean and FGSM of three
    assert outcomes(queue.run(name, Workspace.of("cut"))) == [("a", "done")]
    first, second = rows("whole"), rows("cut")
    for cell in first:
        pd.testing.assert_frame_equal(first[cell], second[cell])


def test_results_hold_ledgers_and_tables_alone(in_tmp: Path) -> None:
    queue.run(written(Path("mine.yaml"), {"a": item(), "b": item("fgsm_at")}))
    found = {path.relative_to("results").parts[0] for path in Path("results").rglob("*")}
    assert found == {"ledger", "checkpoints", "tables", "leaderboard.csv", "leaderboard.md"}
    own = pd.read_csv("results/tables/mine_white_box.csv")
    assert sorted(own["defense"]) == ["fgsm_at", "standard"]
    assert own["n"].tolist() == [EXAMPLES, EXAMPLES]
    papers = {path.stem for path in Path("results/tables").glob("*.md")} - {"mine_white_box"}
    expected = [
        name
        for name in benchmark.exhibits(benchmark.Table)
        if {entry.defense for entry in benchmark.load(name).trained} & {"standard", "fgsm_at"}
    ]
    assert papers == set(expected)
    assert "digits" in Path("results/tables/adt-table1.md").read_text()


def test_what_is_done_needs_no_checkpoint(in_tmp: Path) -> None:
    name = written(Path("mine.yaml"), {"a": item(), "b": item("fgsm_at")})
    assert outcomes(queue.run(name, only="a")) == [("a", "done")]
    for path in Path("results/checkpoints").iterdir():
        path.unlink()
    before = files("results")
    report = queue.run(name, only="a")
    assert (report.before, report.outcomes, report.next) == (["a"], [], None)
    assert files("results") == before
    report = queue.run(name)
    assert (report.before, outcomes(report)) == (["a"], [("b", "done")])


def test_whatever_differs_is_open(in_tmp: Path) -> None:
    queue.run(written(Path("mine.yaml"), {"a": item()}))
    differing: list[tuple[dict[str, Any], dict[str, Any]]] = [
        (item(lr=0.05), {}),
        ({**item(), "seed": 1}, {}),
        (item(), {"limit": 500}),
        (item(), {"eps": 0.1}),
        (item(), {"evaluations": {"white_box": {"attacks": ["fgsm", "pgd-10"], "n": EXAMPLES + 1}}}),
        (item(), {"evaluations": {"white_box": {"attacks": ["fgsm", "pgd-20"], "n": EXAMPLES}}}),
    ]
    states = [
        forecast.forecast(written(Path("mine.yaml"), {"a": entry}, **changes))[0].state
        for entry, changes in [(item(), {}), *differing]
    ]
    assert states == ["done", *["open"] * 4, "evaluation at 95 %", "evaluation at 67 %"]


def test_an_item_that_fails_costs_the_others_nothing(
    in_tmp: Path, robench: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("broken.py").write_text(
        "from robench.search import sees\n\n\n@sees('gradients')\ndef broken(search):\n    raise ValueError('no')\n"
    )
    train = loop.train

    def scant(plan: Plan, *arguments: Any, **options: Any) -> checkpoint.Card:
        if plan.recipe.name == "trades":
            raise torch.OutOfMemoryError("CUDA out of memory.\nand much more")
        return train(plan, *arguments, **options)

    monkeypatch.setattr(loop, "train", scant)
    items = {"data": item(like="lacking"), "memory": item("trades"), "rate": item(lr=1e30), "good": item()}
    ran = robench("reproduce", written(Path("mine.yaml"), items))
    assert ran.code == 1
    report = queue.run("mine.yaml")
    assert report.before == ["good"]
    assert outcomes(report) == [("data", "failed"), ("memory", "failed"), ("rate", "failed")]
    lacking, memory, rate = (outcome.detail for outcome in report.outcomes)
    assert lacking.startswith("dataset parquet:nowhere: expected files train-*.parquet")
    assert memory == "OutOfMemoryError: CUDA out of memory."
    assert rate.startswith("the loss of model is")
    assert lacking in ran.err
    assert "good" in ran.out
    evaluations = {"white_box": {"attacks": ["./broken.py"], "n": EXAMPLES}}
    report = queue.run(written(Path("broken.yaml"), {"a": item()}, evaluations=evaluations))
    assert outcomes(report) == [("a", "failed")]
    assert "broken ended in an error on" in report.outcomes[0].detail
    evaluations = {"white_box": {"attacks": ["fgsm"], "n": 501}}
    report = queue.run(written(Path("wide.yaml"), {"a": item()}, evaluations=evaluations))
    assert report.outcomes[0].detail == "expected 501 test images in digits, got 500"


def test_nothing_is_begun_in_the_last_minute_but_the_first(in_tmp: Path) -> None:
    name = written(Path("mine.yaml"), {"a": item(), "b": item("fgsm_at"), "c": item("trades")})
    late = queue.run(name, deadline=Deadline(59.0, lambda: 0.0))
    assert (outcomes(late), late.next) == ([("a", "done")], "b")
    in_time = queue.run(name, deadline=Deadline(61.0, lambda: 0.0))
    assert (in_time.before, outcomes(in_time)) == (["a"], [("b", "done"), ("c", "done")])


def test_the_queue_from_python_and_the_command_line(in_tmp: Path, robench: Callable[..., Ran]) -> None:
    name = written(Path("mine.yaml"), {"a": item(), "b": item("fgsm_at")})
    report = package.reproduce(name, budget="5m", only="a")
    assert outcomes(report) == [("a", "done")]
    assert package.reproduce(name, only="a").before == ["a"]
    ran = robench("reproduce", name, "--budget", "5m")
    assert ran.code == 0, ran.err
    assert "done before: a" in ran.out
    assert "no other item is open" in ran.out
    for arguments, words in (
        (("--budget", "soon"), "expected a duration above 0 such as 20m, 90s or 1h30m, got 'soon'"),
        (("--only", "c*"), "unknown item 'c*'; known: a, b"),
    ):
        ran = robench("reproduce", name, *arguments)
        assert (ran.code, ran.err.strip()) == (2, f"robench: {words}")
    assert "did you mean 'reproduce'" in robench("reproduce", "reprodce").err
    assert "is a queue, not a benchmark; robench reproduce runs it" in robench("bench", "reproduce").err


# What it foretells


def pattern(*lengths: float) -> Callable[[], float]:
    """A clock on which so much time passes from one look to the next, over and over."""

    def moments() -> Iterator[float]:
        now = 0.0
        for length in cycle(lengths):
            yield now
            now += length

    found = moments()
    return lambda: next(found)


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (0.125, 0.125),  # batches of 2, 16 and 64: the last is the training's own
        (1.0, 32.0),  # eight times as long would be more than enough: a batch of 2, 32 times
    ],
)
def test_the_time_of_a_training_step(step: float, expected: float) -> None:
    split = datasets.load("digits", "train")
    plan = Plan(recipe.resolve("pgd_at", "digits", split.shape, {}), "digits", split)
    assert forecast.step_seconds(plan, "cpu", pattern(step)) == expected


def test_a_dry_run_adds_up(in_tmp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forward, backward, step = 2.0, 3.0, 0.125
    clock = pattern(128 * forward, 128 * (forward + backward), 0.0)
    monkeypatch.setattr(estimate, "_now", lambda device: clock())
    items = {"a": item(holdout=100), "b": item(like="lacking")}
    name = written(Path("mine.yaml"), items)
    open_, lacking = forecast.forecast(name, clock=pattern(step))
    assert (open_.state, open_.step, open_.attack_step) == ("open", step, 128 * (forward + backward))
    looks = 4 * 100 * (12 * forward + 10 * backward)  # a clean forward, PGD-10, and a forward of where it ends
    assert open_.training == pytest.approx(STEPS * step + looks)
    fgsm, pgd = 2 * forward + backward, 11 * forward + 10 * backward
    assert open_.attacks == pytest.approx(EXAMPLES * (forward + fgsm + pgd))
    assert open_.total == open_.training + open_.attacks
    assert lacking.state.startswith("cannot be run: dataset parquet:nowhere")
    assert lacking.total == 0
    assert sorted(path.name for path in in_tmp.iterdir()) == ["mine.yaml"]

    queue.run(name, deadline=ticking(47), only="a")
    before = files("results")
    begun = forecast.forecast(name, clock=pattern(step), only="a")[0]
    assert begun.state == "training at 75 %"
    assert begun.training == pytest.approx(open_.training / 4)
    assert begun.attacks == open_.attacks
    assert files("results") == before

    queue.run(name, deadline=ticking(18), only="a")
    evaluated = forecast.forecast(name, clock=pattern(step), only="a")[0]
    assert evaluated.state.startswith("evaluation at")
    assert (evaluated.step, evaluated.training) == (None, 0)

    queue.run(name, only="a")
    done = forecast.forecast(name, only="a")[0]
    assert (done.state, done.total) == ("done", 0)


def test_the_steps_counted_are_those_made(tmp_path: Path) -> None:
    class Told(loop.SilentTraining):
        def begin(self, name: str, steps: int, done: int) -> None:
            self.steps = steps

    split = datasets.load("digits", "train")
    for changes, limit in (({"epochs": 2, "holdout": 90}, None), ({"epochs": 1, "batch_size": 50}, 130)):
        resolved = recipe.resolve("standard", "digits", split.shape, changes)
        plan, told = Plan(resolved, "digits", split, limit=limit), Told()
        loop.train(plan, tmp_path / f"{limit}.pt", progress=told)
        assert steps_of(plan) == told.steps


def test_a_dry_run_on_the_command_line(in_tmp: Path, robench: Callable[..., Ran]) -> None:
    ran = robench("reproduce", written(Path("mine.yaml"), {"a": item(), "b": item(like="lacking")}), "--dry-run")
    assert ran.code == 0, ran.err
    assert "cannot be run" in ran.out
    assert "total" in ran.out
    assert not Path("results").exists()


# Our queue


def test_our_queue_names_what_exists_and_can_be_trained() -> None:
    for each in load("reproduce"):
        shape = (1, 28, 28) if each.shared.dataset == "mnist" else (3, 32, 32)
        setup = recipe.resolve(each.defense, each.shared.dataset, shape, each.changes).setup
        assert max(setup.drops) < setup.epochs
        assert setup.eps_warmup < min(setup.drops)
        for asked in each.evaluations.values():
            for name in asked.attacks:
                assert name in registry.attack_catalog()


def test_our_queue_has_each_defense_on_both_sets_in_turn() -> None:
    items = load("reproduce")
    pairs = list(zip(items[::2], items[1::2], strict=True))
    assert [(a.shared.dataset, b.shared.dataset) for a, b in pairs] == [("mnist", "parquet:cifar10-jpeg75")] * len(
        pairs
    )
    assert all(a.defense == b.defense for a, b in pairs)
    particles = {(a.defense, a.own.get("particles")) for a in items}
    assert particles == {
        *(
            (name, None)
            for name in ("standard", "pgd_at", "trades", "adt_exp", "adt_exp_am", "feature_scatter", "atld")
        ),
        *(("ald_pgd", n) for n in (2, 4)),
        *(("ald_trades", n) for n in (2, 4)),
    }


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"queue": {"a": {"like": "digit", "defense": "standard"}}}, "a: unknown block 'digit'; did you mean 'digits'"),
        ({"queue": {"a": {"like": "digits", "defense": "standrad"}}}, "unknown defense 'standrad'"),
        ({"queue": {"a": {"like": "digits", "defense": "standard", "set": {"lrr": 1}}}}, "unknown setting 'lrr'"),
        ({"queue": {"a": {"like": "digits", "defense": "standard", "epochs": 1}}}, "queue.a.epochs: extra inputs"),
        ({"queue": {}}, "at least 1 item"),
        ({"items": {}}, "unknown key 'items'"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_trained(in_tmp: Path, change: dict[str, Any], words: str) -> None:
    written(Path("mine.yaml"), {"a": item()})
    block = yaml.safe_load(Path("mine.yaml").read_text())
    Path("mine.yaml").write_text(yaml.safe_dump({**block, **change}))
    with pytest.raises(UserError, match=words):
        queue.run("mine.yaml")
    assert not Path("results").exists()
