"""The figures of ADT and ALD that measurements are made for: drawn from what is there, the same bytes each time."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from robench.ledger.measurements import Measurement, Measurements
from robench.reports import drawing
from robench.reports.figures.palette import spread
from robench.reports.figures.particles import region
from robench.specs.benchmark import Figure, load_exhibit
from tests.helpers import Ran

IDS = ("adt-fig1", "adt-fig2", "adt-v1-fig5", "ald-fig1", "ald-fig2")


def record(
    results: Path,
    id: str,
    kind: str,
    found: dict[str, Any],
    *,
    defense: str = "standard",
    dataset: str = "digits",
    started: str = "2026-01-01",
    **about: Any,
) -> None:
    """A measurement with the settings of the figure's file, as a run would have left it."""
    figure: Figure = load_exhibit(Figure, id)
    recipe = {"name": defense, "settings": {}, "setup": {"epochs": 3}, "limit": 5000}
    names = {"model": f"{dataset}-{defense}", "arch": "lenet", "defense": defense, "recipe": recipe, "train_seed": 0}
    names |= {"dataset": f"{dataset} (test)", "norm": "linf", "eps": "0.1", "settings": figure.measure[kind], **about}
    key = {"model": names["model"], "threat": ["linf", 0.1], "n": 100, "started": started, "eps": names["eps"]}
    Measurements(results).record(Measurement(kind, key, names, {"images": 100, **found}, {"started": started}))


def points(*names: str, count: int = 3) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    return {name: rng.normal(size=(count, 2)).round(3).tolist() for name in names}


def spread_of(pgd: float = 1.0) -> dict[str, Any]:
    shown = [
        {"row": row, "label": 7, "explained": [0.5, 0.2], "origin": [0, 0], "points": points("EXP", "PGD")}
        for row in range(4)
    ]
    distances = {"EXP": [2.0, 2.5], "PGD": [pgd, pgd + 1]}
    return {"distances": distances, "fooled": {"EXP": 0.9, "PGD": 1.0}, "shown": shown}


def diversity_of(height: float) -> dict[str, Any]:
    method = {"squared": [[height, height + 2, height + 4]] * 6, "fooled": [0.5] * 6}
    names = ("PGD", "SVGD as printed", "SVGD, median bandwidth")
    return {"counts": [2, 4, 8, 16, 24, 32], "methods": dict.fromkeys(names, method)}


def particles_of(channels: int = 1) -> dict[str, Any]:
    rng = np.random.default_rng(1)
    x = rng.random((channels, 6, 6))
    method = {
        "points": (x + 0.1 * rng.choice([-1, 1], (3, *x.shape))).tolist(),
        "predictions": [3, 3, 5],
        "squared": 1.25,
    }
    names = ("PGD", "SVGD as printed", "SVGD, median bandwidth")
    return {"label": 7, "x": x.tolist(), "methods": dict.fromkeys(names, method)}


def surface_of(height: float) -> dict[str, Any]:
    along = np.linspace(-1, 1, 41)
    return {"label": 7, "radius": 0.1, "loss": (height * (1 + np.add.outer(along, along**2))).tolist()}


def fill(results: Path, dataset: str = "digits") -> None:
    """Something for each of the figures."""
    record(results, "adt-fig1", "spread", spread_of(), dataset=dataset)
    record(results, "ald-fig1", "particles", particles_of(), dataset=dataset)
    record(results, "ald-fig2", "diversity", diversity_of(3.0), dataset=dataset)
    for position, defense in enumerate(["standard", "pgd_at", "adt_exp", "adt_exp_am", "adt_imp_am"], 1):
        curved = {"eigenvalues": [float(position), 3.0 * position], "converged": 100}
        record(results, "adt-fig2", "loss_surface", surface_of(position), defense=defense, dataset=dataset)
        record(results, "adt-fig2", "curvature", curved, defense=defense, dataset=dataset)
        course = {"loss": [0.5, 1.0, position], "accuracy": [1.0, 0.75, 0.5]}
        record(results, "adt-v1-fig5", "convergence", course, defense=defense, dataset=dataset)


@pytest.mark.parametrize("id", IDS)
def test_where_nothing_is_measured_the_command_that_measures_is_named(id: str, tmp_path: Path) -> None:
    drawn = drawing.draw(id, tmp_path)
    assert drawn.canvas is None
    assert f"robench bench {id} " in drawn.caption


@pytest.mark.parametrize("id", IDS)
def test_the_same_measurements_give_the_same_bytes(id: str, tmp_path: Path, robench: Callable[..., Ran]) -> None:
    fill(tmp_path)
    files = [tmp_path / "figures" / f"{id}.{suffix}" for suffix in ("png", "svg", "csv")]
    written = []
    for _ in range(2):
        ran = robench("figure", id, "--results", tmp_path)
        assert ran.code == 0
        assert "100 images of digits (test), lenet, linf 0.1" in ran.out
        assert "3 epochs on 5,000 images" in ran.out
        written.append([file.read_bytes() for file in files])
    assert written[0] == written[1]
    assert all(written[0])


def test_no_figure_imports_torch(tmp_path: Path) -> None:
    fill(tmp_path)
    code = f"""
import sys
from robench.reports import drawing
for id in {IDS}:
    assert drawing.draw(id, {str(tmp_path)!r}).canvas is not None
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_papers_data_set_goes_before_a_newer_one(tmp_path: Path) -> None:
    record(tmp_path, "adt-fig1", "spread", spread_of(1.0), dataset="digits", started="2026-01-02")
    assert "Nothing is measured yet on cifar10" in drawing.draw("adt-fig1", tmp_path).caption
    record(tmp_path, "adt-fig1", "spread", spread_of(4.0), dataset="cifar10", started="2026-01-01")
    drawn = drawing.draw("adt-fig1", tmp_path)
    assert "cifar10 (test)" in drawn.caption
    assert "Nothing" not in drawn.caption
    assert "PGD 4.500" in drawn.caption


def test_models_measured_under_other_terms_do_not_stand_side_by_side(tmp_path: Path) -> None:
    course = {"loss": [0.5, 1.0], "accuracy": [1.0, 0.5]}
    record(tmp_path, "adt-v1-fig5", "convergence", course, defense="pgd_at", started="2026-01-01", eps="0.3")
    record(tmp_path, "adt-v1-fig5", "convergence", course, defense="adt_exp", started="2026-01-02")
    assert set(drawing.draw("adt-v1-fig5", tmp_path).data["model"]) == {"ADT-EXP"}
    record(tmp_path, "adt-v1-fig5", "convergence", course, defense="pgd_at", started="2026-01-01")
    assert set(drawing.draw("adt-v1-fig5", tmp_path).data["model"]) == {"AT-PGD", "ADT-EXP"}


def test_of_one_model_the_newest_is_drawn(tmp_path: Path) -> None:
    for started, loss in (("2026-01-03", 3.0), ("2026-01-01", 1.0), ("2026-01-02", 2.0)):
        course = {"loss": [0.5, loss], "accuracy": [1.0, 0.5]}
        record(tmp_path, "adt-v1-fig5", "convergence", course, defense="pgd_at", started=started)
    assert drawing.draw("adt-v1-fig5", tmp_path).data["loss"].tolist() == [0.5, 3.0]


def test_measurements_with_other_settings_than_the_figures_are_left_out(tmp_path: Path) -> None:
    course = {"loss": [0.5, 1.0], "accuracy": [1.0, 0.5]}
    other = {"attack": "adt_exp:steps=2"}
    record(tmp_path, "adt-v1-fig5", "convergence", course, defense="pgd_at", settings=other)
    assert drawing.draw("adt-v1-fig5", tmp_path).canvas is None


def test_eigenvalues_stand_beside_the_published_ones(tmp_path: Path) -> None:
    fill(tmp_path)
    drawn = drawing.draw("adt-fig2", tmp_path)
    assert "Standard 2 ± 1 (published 1.8301 ± 6.3663)" in drawn.caption
    assert "AT-PGD 4 ± 2 (published 0.0242 ± 0.0478)" in drawn.caption
    values = drawn.data[drawn.data["part"] == "eigenvalue"]
    assert values.groupby("model")["value"].mean().to_dict()["ADT-IMP-AM"] == 10
    surface = drawn.data[(drawn.data["part"] == "surface") & (drawn.data["model"] == "AT-PGD")]
    assert len(surface) == 41**2
    corner = surface[(surface["gradient"] == surface["gradient"].max()) & (surface["random"] == -0.1)]
    assert corner["value"].tolist() == pytest.approx([2 * 3])


def test_diversity_has_a_panel_for_each_of_the_papers_data_sets(tmp_path: Path) -> None:
    record(tmp_path, "ald-fig2", "diversity", diversity_of(9.0), dataset="digits", started="2026-01-03")
    record(tmp_path, "ald-fig2", "diversity", diversity_of(5.0), dataset="cifar10", eps="8/255")
    record(tmp_path, "ald-fig2", "diversity", diversity_of(1.0), dataset="mnist")
    drawn = drawing.draw("ald-fig2", tmp_path)
    assert drawn.canvas is not None
    assert len(drawn.canvas.axes) == 2
    means = drawn.data.groupby("dataset", sort=False)["mean"].first()
    assert means.to_dict() == {"mnist": 3.0, "cifar10": 7.0}
    assert drawn.data["deviation"].unique() == pytest.approx([np.std([0, 2, 4])])


def test_colour_images_are_drawn_too(tmp_path: Path) -> None:
    record(tmp_path, "ald-fig1", "particles", particles_of(3), dataset="cifar10")
    drawn = drawing.draw("ald-fig1", tmp_path)
    assert isinstance(drawn.data, pd.DataFrame)
    assert drawing.write(drawn, tmp_path, "ald-fig1")
    assert len(drawn.data) == 3 * 3 * 3 * 36
    assert drawn.data["perturbation"].abs().unique() == pytest.approx([0.1])


def test_the_region_is_where_perturbations_of_one_method_differ() -> None:
    rng = np.random.default_rng(0)
    differing = np.zeros((3, 1, 8, 6))
    differing[:, :, 3:7, 2:5] = rng.normal(size=(3, 1, 4, 3))
    everywhere_the_same = np.tile(rng.normal(size=(1, 1, 8, 6)), (3, 1, 1, 1))
    assert region([everywhere_the_same, differing]) == (slice(3, 7), slice(2, 5))


def test_labels_are_moved_apart_and_no_farther() -> None:
    assert spread([0.1, 0.5, 0.9], 0.1) == pytest.approx([0.1, 0.5, 0.9])
    assert spread([0.2, 0.2, 0.8], 0.1) == pytest.approx([0.15, 0.25, 0.8])
    assert spread([0.5, 0.5, 0.56, 0.62], 0.1) == pytest.approx([0.395, 0.495, 0.595, 0.695])


def test_a_figure_is_measured_and_drawn(tmp_path: Path, robench: Callable[..., Ran]) -> None:
    cut = ("--dataset", "digits", "--epochs", 1, "--limit", 64, "--n", 3, "--results", tmp_path)
    assert robench("bench", "adt-fig1", *cut).code == 0
    ran = robench("figure", "adt-fig1", "--results", tmp_path)
    assert "Measured on 3 images of digits (test), digit_cnn, linf 0.2; standard trained for 1 epoch on 64" in ran.out
    data = pd.read_csv(tmp_path / "figures" / "adt-fig1.csv")
    assert data.groupby(["part", "image", "attack"]).size().to_dict() == {
        **{("plane", image, attack): 50 for image in (1, 2, 3) for attack in ("EXP", "PGD")},
        **{("distance", image, attack): 1 for image in (1, 2, 3) for attack in ("EXP", "PGD")},
    }
