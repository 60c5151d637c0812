"""Benchmarks: how they are cut, and that each does what its file says."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import yaml

from robench.benchmarking.run import Cuts, run
from robench.reports.evaluations import runs
from robench.specs import benchmark
from robench.utils.errors import UserError
from tests.helpers import Ran

MINE = {
    "dataset": "digits",
    "eps": 0.2,
    "epochs": 1,
    "limit": 200,
    "n": 30,
    "attacks": ["fgsm"],
    "defenses": ["standard", "fgsm_at"],
}


def written(path: Path, **changes: object) -> str:
    path.write_text(yaml.safe_dump({**MINE, **changes}))
    return str(path)


def test_cuts_change_what_they_name() -> None:
    cut = Cuts(arch="lenet", n=10, epochs=2).of(benchmark.load("mnist"))
    assert (cut.n, cut.epochs, cut.train["arch"], cut.train["lr"]) == (10, 2, "lenet", 0.05)
    assert (cut.eps, cut.dataset) == (0.3, "mnist")


def test_drops_of_the_learning_rate_shrink_with_the_epochs() -> None:
    cut = Cuts(epochs=20).of(benchmark.load("adt-table6"))
    assert (cut.epochs, cut.train["drops"]) == (20, [10, 15])
    assert "epochs" not in cut.train


def test_other_data_have_their_own_radius() -> None:
    table = benchmark.load("adt-table2")
    assert Cuts(dataset="svhn").of(table).eps == "4/255"
    assert Cuts(dataset="digits").of(table).eps is None
    assert Cuts(dataset="digits", eps=0.1).of(table).eps == 0.1
    assert Cuts(dataset="cifar100").of(table).eps == "8/255"


def test_a_benchmark_is_trained_attacked_and_ranked_once(in_tmp: Path, robench: Callable[..., Ran]) -> None:
    name = written(Path("mine.yaml"))
    first = robench("bench", name, "--n", 20)
    assert first.code == 0, first.err
    assert "cut: n 20" in first.err
    assert "training for 1 epochs" in first.err
    checkpoints = {path: path.stat().st_mtime_ns for path in Path("results/checkpoints").glob("*.pt")}
    assert len(checkpoints) == 2
    second = robench("bench", name, "--n", 20)
    assert second.out == first.out
    assert "training" not in second.err
    assert {path: path.stat().st_mtime_ns for path in checkpoints} == checkpoints
    frame = pd.read_csv("results/tables/mine.csv")
    assert sorted(frame["defense"]) == ["fgsm_at", "standard"]
    assert frame["n"].tolist() == [20, 20]


def test_the_own_table_holds_the_own_attacks(in_tmp: Path) -> None:
    run(written(Path("mine.yaml")))
    wide = run(written(Path("strong.yaml"), n=10, attacks=["fgsm", "pgd-10"]))
    assert wide["n"].tolist() == [10, 10]
    assert "pgd-10" not in pd.read_csv("results/tables/mine.csv")
    again = run("mine.yaml")
    assert again["n"].tolist() == [30, 30]
    assert "pgd-10" not in again


def test_radii_are_evaluated_one_by_one(in_tmp: Path) -> None:
    frame = run(written(Path("mine.yaml"), radii=["eps/4", "eps"], defenses=["standard"], epochs=4, limit=1000))
    accuracy = frame.set_index("threat")["fgsm"]
    assert list(accuracy.index) == ["linf 0.05", "linf 0.2"]
    assert accuracy["linf 0.2"] < accuracy["linf 0.05"]


def test_each_model_is_attacked_from_each_other(in_tmp: Path) -> None:
    frame = run(written(Path("mine.yaml"), attacks=["transfer-fgsm"], sources="each"))
    assert list(frame.columns[-1:]) == ["transfer-fgsm"]
    sources = {
        run.about["defense"]: [c.about["source_defenses"] for c in run.cells.values() if c.about.get("sources")]
        for run in runs("results")
    }
    assert sources == {"standard": [["fgsm_at"]], "fgsm_at": [["standard"]]}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"defenses": []}, "expected defenses or models, got neither"),
        ({"attacks": ["pgd-21"]}, "unknown attack"),
        ({"measure": {"gallary": {}}}, "unknown measurement"),
        ({"defenses": [{"defense": "lat", "init": "pgd_at"}]}, "unknown defense before lat"),
        ({"n": 0}, "expected n of at least 1"),
        ({"radii": ["8pixels"]}, "expected a positive number"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_trained(in_tmp: Path, changes: dict[str, object], words: str) -> None:
    with pytest.raises(UserError, match=words):
        run(written(Path("mine.yaml"), **changes))
    assert not Path("results/checkpoints").exists()
