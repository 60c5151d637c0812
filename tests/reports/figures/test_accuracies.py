"""Figures of accuracies, from ledgers written by hand."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes

from robench.ledger.measurements import Measurement, Measurements, MeasurementWarning
from robench.reports import drawing
from robench.reports.figure_data import Drawing
from robench.specs import benchmark
from robench.specs.benchmark import Figure
from robench.training import recipe
from robench.utils.stats import wilson
from tests.ledgers import clean, fooled, write

IDS = ("ald-fig4", "ald-fig5", "ald-fig7", "ald-fig8", "adt-fig4", "adt-fig5", "adt-v1-fig6", "atld-fig3")


def about(defense: str, dataset: str = "mnist", epochs: int = 100, seed: int = 0, **settings: Any) -> dict[str, Any]:
    """What a cell says of a model that was trained with these settings."""
    setup = {"epochs": epochs, "arch": "lenet", "eps": "0.3"}
    described = {"name": defense, "settings": settings, "setup": setup, "limit": None}
    name = f"{dataset}-{defense}-{epochs}-{seed}-{'-'.join(map(str, settings.values()))}"
    trained = {"defense": defense, "recipe": described, "train_seed": seed, "trained_on": dataset, "arch": "lenet"}
    return {"model": name, "dataset": f"{dataset} (test)", "eps": "0.3", **trained}


def evaluated(results: Path, attacks: dict[str, Sequence[int]], started: str = "2026-01-01", **names: Any) -> None:
    """A model with its clean cell and those of attacks, which broke these of its 7 right examples of 8."""
    clean(results, started=started, **names)
    for attack, broken in attacks.items():
        write(results, attack, fooled(*broken), started=started, **names)


def ald(n: int, **more: Any) -> dict[str, Any]:
    return about("ald_pgd", particles=n, bandwidth="paper", start="near_uniform", **more)


def starts(n: int, **more: Any) -> dict[str, Any]:
    return about("ald_pgd", particles=n, bandwidth=1e-12, start="ball", **more)


def values(drawn: Drawing, **where: Any) -> list[float]:
    frame = drawn.data
    for name, value in where.items():
        frame = frame[frame[name] == value]
    return [float(value) for value in frame[next(name for name in ("value", "accuracy") if name in frame)]]


def heights(axes: Axes) -> list[list[float]]:
    """Of the points of each line that is drawn through them."""
    return [np.asarray(line.get_ydata()).tolist() for line in axes.get_lines() if line.get_linestyle() != "None"]


# Accuracy against a setting


PGD = "pgd-200-mnist"


def test_the_points_of_a_curve_are_the_accuracies_at_each_setting(tmp_path: Path) -> None:
    for n, broken in ((4, (0,)), (1, (0, 1, 2)), (2, (0, 1))):
        evaluated(tmp_path, {PGD: broken}, **ald(n))
    evaluated(tmp_path, {PGD: (0, 1, 2, 3)}, **starts(1))
    drawn = drawing.draw("ald-fig4", tmp_path)
    robust = drawn.data[(drawn.data["of"] == PGD) & (drawn.data["model"] == "ALD")]
    assert robust["setting"].tolist() == [1, 2, 4]
    assert robust[["value", "low", "high"]].values.tolist() == [list(wilson(k, 8)) for k in (4, 5, 6)]
    assert values(drawn, of="clean", model="ALD") == [7 / 8] * 3
    assert values(drawn, of=PGD, model="n starts") == values(drawn, of=PGD, model="PGD") == [3 / 8]
    assert "mnist (test) within linf 0.3" in drawn.caption
    assert "lenet trained for 100 epochs; training seed 0. n = 8" in drawn.caption
    assert "Not there yet: ALD, KL, n starts, KL, TRADES" in drawn.caption


def test_a_baseline_is_level_and_the_others_pass_through_their_points(tmp_path: Path) -> None:
    for n, broken in ((1, (0, 1)), (2, (0,))):
        evaluated(tmp_path, {PGD: broken}, **starts(n))
    canvas = drawing.draw("ald-fig4", tmp_path).canvas
    assert canvas is not None
    below = canvas.axes[2]
    assert [5 / 8, 5 / 8] in heights(below)  # the level of PGD
    assert [5 / 8, 6 / 8] in heights(below)
    assert {text.get_text() for text in below.texts} == {"n starts", "PGD"}


def test_several_seeds_are_points_of_one_line(tmp_path: Path) -> None:
    for seed, broken in ((0, (0, 1)), (1, (0, 1, 2, 3))):
        evaluated(tmp_path, {PGD: broken}, **ald(2, seed=seed))
    drawn = drawing.draw("ald-fig4", tmp_path)
    assert sorted(values(drawn, of=PGD)) == [3 / 8, 5 / 8]
    assert drawn.canvas is not None
    assert [4 / 8] in heights(drawn.canvas.axes[2])
    assert "training seeds 0, 1" in drawn.caption


def test_the_papers_data_set_is_drawn_where_there_is_one_else_the_newest(tmp_path: Path) -> None:
    evaluated(tmp_path, {PGD: ()}, started="2026-02-01", **ald(1, dataset="svhn"))
    evaluated(tmp_path, {PGD: (0,)}, started="2026-03-01", **ald(1, dataset="digits"))
    drawn = drawing.draw("ald-fig4", tmp_path)
    assert values(drawn, of=PGD) == [6 / 8]
    assert "On digits (test) within linf 0.3" in drawn.caption
    evaluated(tmp_path, {PGD: (0, 1)}, started="2026-01-01", **ald(1))
    assert values(drawing.draw("ald-fig4", tmp_path), of=PGD) == [5 / 8]


def test_a_line_holds_one_schedule(tmp_path: Path) -> None:
    for n in (1, 2, 4):
        evaluated(tmp_path, {PGD: (0,)}, **ald(n))
    evaluated(tmp_path, {PGD: (0, 1)}, started="2026-05-01", **ald(2, epochs=2))
    drawn = drawing.draw("ald-fig4", tmp_path)
    assert values(drawn, of=PGD) == [6 / 8] * 3
    assert "2 epochs" not in drawn.caption
    evaluated(tmp_path, {PGD: (0, 1, 2)}, **starts(2, epochs=2))  # there is no other for this line
    drawn = drawing.draw("ald-fig4", tmp_path)
    assert values(drawn, of=PGD, model="n starts") == [4 / 8]
    assert "lenet trained for 2 epochs (n starts)" in drawn.caption


def test_what_is_half_written_is_left_out(tmp_path: Path) -> None:
    clean(tmp_path, **ald(8))  # timed only, say
    evaluated(tmp_path, {PGD: (0,)}, **ald(1))
    clean(tmp_path, **ald(2))
    for part in write(tmp_path, PGD, [], **ald(2)).path.glob("part-*"):
        part.unlink()
    drawn = drawing.draw("ald-fig4", tmp_path)
    assert drawn.data.loc[drawn.data["of"] == PGD, "setting"].tolist() == [1]


def test_the_entropy_comes_from_the_log_of_the_epoch_kept(tmp_path: Path) -> None:
    for weight, entropy in ((0.0, -2.0), (1.0, -1.0)):
        names = about("adt_exp_am", "cifar10", entropy_weight=weight)
        evaluated(tmp_path, {"fgsm": (), "pgd-20": (0,)}, **names)
        if weight == 0:
            drawn = drawing.draw("adt-fig5", tmp_path)
            assert drawn.canvas is not None
            assert len(drawn.canvas.axes) == 1
            assert "Not measured yet: entropy" in drawn.caption
        found = {"kept": {"entropy": entropy}, "history": []}
        run = {"started": "2026-01-01"}
        said = {**names, "norm": "linf", "settings": {}}
        Measurements(tmp_path).record(Measurement("training", {"of": names["model"]}, said, found, run))
    drawn = drawing.draw("adt-fig5", tmp_path)
    logged = drawn.data[drawn.data["of"] == "entropy"]
    assert logged[["setting", "value"]].values.tolist() == [[0.0, -2.0], [1.0, -1.0]]
    assert values(drawn, of="fgsm") == [7 / 8] * 2
    assert drawn.canvas is not None
    assert {text.get_text() for text in drawn.canvas.axes[0].texts} == {"clean", "fgsm", "pgd-20"}
    assert heights(drawn.canvas.axes[1]) == [[-2.0, -1.0]]


# Accuracy against the radius


def test_a_panel_for_every_data_set_the_papers_first(tmp_path: Path) -> None:
    everywhere = {"digits": ("0.1", "0.2"), "svhn": ("0.0156863", "0.0313725"), "cifar10": ("0.0313725",)}
    for dataset, radii in everywhere.items():
        for place, eps in enumerate(radii):
            names = {**about("pgd_at", dataset), "eps": eps}
            evaluated(tmp_path, {"pgd-20": range(place + 1), "cw-20": range(place + 2)}, **names)
    drawn = drawing.draw("atld-fig3", tmp_path)
    assert drawn.canvas is not None
    titles = [axes.get_title() for axes in drawn.canvas.axes]
    assert titles == [f"{attack}, {name}" for attack in ("PGD-20", "CW-20") for name in ("cifar10", "svhn", "digits")]
    svhn = drawn.data[drawn.data["dataset"] == "svhn"]
    assert svhn["eps"].tolist() == [0.0156863, 0.0313725] * 2
    assert values(drawn, dataset="svhn", attack="PGD-20") == [6 / 8, 5 / 8]
    assert values(drawn, dataset="digits", attack="CW-20") == [5 / 8, 4 / 8]
    axes = dict(zip(titles, drawn.canvas.axes, strict=True))
    assert axes["PGD-20, svhn"].get_xlabel().endswith("in 1/255")
    assert list(axes["PGD-20, svhn"].get_xticks()) == pytest.approx([4, 8], abs=1e-3)
    assert list(axes["PGD-20, digits"].get_xticks()) == [0.1, 0.2]
    assert "Not there yet: FS, ATLD-IMT" in drawn.caption


# Transfer


def transferred(results: Path, target: dict[str, Any], source: dict[str, Any], broken: Sequence[int]) -> None:
    clean(results, **target)
    for attack in ("transfer-pgd-20", "transfer-mim"):
        name = f"{attack} from {source['model']}"
        write(results, name, fooled(*broken), sources=[source["model"]], **target)


def test_the_matrix_has_targets_in_rows_and_sources_in_columns(tmp_path: Path) -> None:
    standard, other = about("standard", "cifar10"), about("standard", "cifar10", seed=1)
    robust = about("pgd_at", "cifar10")
    transferred(tmp_path, standard, robust, (0,))
    transferred(tmp_path, robust, standard, (0, 1))
    transferred(tmp_path, robust, other, (0, 1, 2, 3))
    transferred(tmp_path, other, standard, (0, 1, 2))
    transferred(tmp_path, standard, {"model": "a stranger"}, ())
    drawn = drawing.draw("adt-fig4", tmp_path)
    assert values(drawn, attack="MIM", target="Standard", source="AT-PGD") == [6 / 8]
    assert sorted(values(drawn, attack="PGD-20", target="AT-PGD", source="Standard")) == [3 / 8, 5 / 8]
    assert values(drawn, attack="PGD-20", target="Standard", source="Standard") == [4 / 8]  # of the two seeds
    assert len(drawn.data) == 2 * 4
    assert drawn.canvas is not None
    written = [text.get_text() for text in drawn.canvas.axes[0].texts]
    assert written[:2] == ["50.0", "75.0"]
    assert written[5:7] == ["50.0", "-"]  # the mean over two sources; none for AT-PGD itself
    assert written.count("-") == 25 - 3
    assert "Not there yet: ADT-EXP, ADT-EXP-AM, ADT-IMP-AM" in drawn.caption


# All of them


def test_where_nothing_is_there_the_command_is_named(tmp_path: Path) -> None:
    quick = about("trades", "digits", particles=2)
    for results in (tmp_path / "none", tmp_path):
        for id in (*IDS, "atld-fig1"):
            drawn = drawing.draw(id, results)
            assert drawn.canvas is None
            assert f"nothing is measured yet; robench bench {id} " in drawn.caption
        evaluated(tmp_path, {"pgd-20": (0,)}, **quick)  # and then a model that no figure shows


def test_the_same_ledger_gives_the_same_bytes(tmp_path: Path) -> None:
    evaluated(tmp_path, {PGD: (0, 1)}, **ald(1))
    transferred(tmp_path, about("pgd_at", "cifar10"), about("standard", "cifar10"), (0,))
    transferred(tmp_path, about("standard", "cifar10"), about("pgd_at", "cifar10"), (0,))
    evaluated(tmp_path, {"cw-20": (0, 1)}, **about("pgd_at", "svhn"))
    for id in ("ald-fig4", "adt-fig4", "atld-fig3"):
        first = [path.read_bytes() for path in drawing.write(drawing.draw(id, tmp_path), tmp_path, id)]
        assert first == [path.read_bytes() for path in drawing.write(drawing.draw(id, tmp_path), tmp_path, id)]
        assert first[2].startswith(b"attack," if id == "adt-fig4" else (b"panel,", b"dataset,"))


def test_drawing_imports_no_torch(tmp_path: Path) -> None:
    evaluated(tmp_path, {PGD: (0, 1)}, **ald(1))
    code = (
        "import sys, json; from robench.reports import drawing\n"
        f"for id in {[*IDS, 'atld-fig1']!r}: drawing.draw(id, {str(tmp_path)!r})\n"
        "print(json.dumps('torch' in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) is False


def test_a_damaged_measurement_is_named(tmp_path: Path) -> None:
    (tmp_path / "measurements").mkdir()
    (tmp_path / "measurements" / "epoch_time-0.json").write_text('{"kind": "epo')
    with pytest.warns(MeasurementWarning, match=r"epoch_time-0\.json cannot be read"):
        assert drawing.draw("ald-fig8", tmp_path).canvas is None


SHAPES = {"mnist": (1, 28, 28), "cifar10": (3, 32, 32), "digits": (1, 8, 8)}


@pytest.mark.parametrize("id", IDS)
def test_a_figures_benchmark_trains_every_model_that_it_shows(id: str) -> None:
    """On its own data set and on the embedded one."""
    figure = benchmark.load(id)
    assert isinstance(figure, Figure)
    models = figure.settings["models"].values()
    models = [model for group in models for model in ([group] if "defense" in group else group.values())]
    for dataset in (figure.dataset, "digits"):
        trained = [
            recipe.resolve(entry.defense, dataset, SHAPES[dataset], {**figure.train, **entry.settings}).describe()
            for entry in figure.trained
        ]
        for model in models:
            wanted = {name: value for name, value in model.items() if name != "defense"}
            assert any(
                each["name"] == model["defense"] and wanted.items() <= each["settings"].items() for each in trained
            ), model
