"""Measurements are made once, and anew where anything in them changed."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from robench.benchmarking import measure
from robench.benchmarking.run import Cuts
from robench.evaluation.plan import EvaluationOptions, plan_evaluation
from robench.ledger.measurements import Measurements
from robench.specs.benchmark import Benchmark, Figure, load
from robench.utils.errors import UserError
from tests.helpers import Trained

ALD = "ald:loss=ce,steps=2,step_size=eps/4"


def made(trained: Trained, results: Path, n: int = 3, **settings: Any) -> int:
    """How many measurements there are after one with these settings."""
    planned = replace(plan_evaluation(trained.model, EvaluationOptions(dataset="digits", eps=0.1, n=n)), attacks=[])
    given = {"attacks": {"PGD": "pgd:steps=2"}, "defenses": {"SVGD": ALD}, "counts": [2], "runs": 1, "images": 2}
    measure.measure_model(planned, "diversity", {**given, **settings}, results)
    return len(Measurements(results).of_kind("diversity"))


def test_one_is_made_anew_only_where_something_changed(digits_model: Trained, tmp_path: Path) -> None:
    assert made(digits_model, tmp_path) == 1
    assert made(digits_model, tmp_path) == 1
    assert made(digits_model, tmp_path, attacks={"PGD": "pgd:steps=3"}) == 2
    assert made(digits_model, tmp_path, attacks={"PGD": "pgd:steps=2,step_size=eps/4"}) == 2  # the same, at length
    assert made(digits_model, tmp_path, defenses={"SVGD": f"{ALD},bandwidth=median"}) == 3
    assert made(digits_model, tmp_path, runs=2) == 4
    assert made(digits_model, tmp_path, n=4) == 5


def test_a_measurement_tells_its_settings_as_they_are_written(digits_model: Trained, tmp_path: Path) -> None:
    made(digits_model, tmp_path)
    (found,) = Measurements(tmp_path).of_kind("diversity")
    assert found.about["settings"]["defenses"] == {"SVGD": ALD}
    assert found.dataset == "digits"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "the setting attacks has no default"),
        ({"attacks": {"PGD": "pgdd-20"}}, "did you mean"),
        ({"attacks": {"PGD": "pgd:step=2"}}, "unknown setting 'step'"),
        ({"attacks": {"PGD": "pgd-20"}, "many": 3}, "unknown setting of measurement spread 'many'"),
    ],
)
def test_wrong_settings_are_refused_before_anything_is_trained(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        measure.check("spread", settings)


def test_an_unknown_defense_is_refused() -> None:
    with pytest.raises(UserError, match="did you mean 'ald'"):
        measure.check("diversity", {"attacks": {}, "defenses": {"SVGD": "aldd:steps=2"}})


def test_on_another_data_set_radius_and_network_are_the_usual_ones_there() -> None:
    benchmark = Benchmark(dataset="mnist", eps=0.1, also={"svhn": "4/255"}, train={"arch": "lenet", "lr": 0.1})
    cut = {dataset: Cuts(dataset=dataset).of(benchmark) for dataset in ("mnist", "digits", "svhn")}
    assert [cut[dataset].eps for dataset in cut] == [0.1, None, "4/255"]
    assert [cut[dataset].train.get("arch") for dataset in cut] == ["lenet", None, "lenet"]
    assert {cut[dataset].train["lr"] for dataset in cut} == {0.1}
    assert Cuts(dataset="digits", arch="small_cnn").of(benchmark).train["arch"] == "small_cnn"


def test_a_benchmark_like_a_figure_is_one(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("like: papers/ald-fig2\nn: 7\n")
    mine, figure = load(str(path)), load("ald-fig2")
    assert isinstance(mine, Figure)
    assert mine == figure.model_copy(update={"n": 7})
