"""Figures of measurements: seconds per epoch and ATLD's toy, from documents written by hand."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from robench.ledger.measurements import Measurement, Measurements
from robench.reports import drawing
from tests.reports.figures.test_accuracies import about


def timed(
    results: Path, defense: str, seconds: float, device: str = "cpu x86_64", started: str = "2026-01-01", **names: Any
) -> None:
    said = about(defense, **names)
    found = {
        "seconds": seconds,
        "quartiles": [0.9 * seconds, 1.2 * seconds],
        "images": 59_000,
        "batch_size": 100,
        "passes": 8.0,
        "threads": 2,
    }
    key = {"model": said["model"], "device": device}
    run = {"started": started, "device": device}
    Measurements(results).record(Measurement("epoch_time", key, {**said, "norm": "linf", "settings": {}}, found, run))


def test_bars_are_the_seconds_and_diamonds_the_printed_ratios(tmp_path: Path) -> None:
    for defense, seconds in (("standard", 2.0), ("pgd_at", 10.0), ("adt_exp", 44.0), ("adt_exp_am", 7.0)):
        timed(tmp_path, defense, seconds, dataset="cifar10")
    drawn = drawing.draw("adt-v1-fig6", tmp_path)
    measured = drawn.data[drawn.data["source"] == "measured"].set_index("model")
    assert measured["seconds"].to_dict() == {"Standard": 2, "AT-PGD": 10, "ADT-EXP": 44, "ADT-EXP-AM": 7}
    assert (measured["low"].to_dict()["ADT-EXP"], measured["high"].to_dict()["ADT-EXP"]) == pytest.approx((39.6, 52.8))
    printed = drawn.data[drawn.data["source"] == "the paper's ratio to AT-PGD"].set_index("model")
    assert printed["seconds"].to_dict() == {"ADT-EXP": 50, "ADT-EXP-AM": 5, "ADT-IMP-AM": 5}  # 5x, and 2x faster
    assert drawn.canvas is not None
    axes = drawn.canvas.axes[0]
    assert [bar.get_width() for bar in axes.patches] == [2, 10, 44, 7]  # type: ignore[attr-defined]
    assert np.asarray(axes.collections[-1].get_offsets()).tolist() == [[50, 2], [5, 3], [5, 4]]
    assert "59,000 images an epoch in batches of 100, cpu x86_64, 2 threads" in drawn.caption
    assert "Not there yet: ADT-IMP-AM" in drawn.caption


def test_seconds_of_two_machines_are_not_compared(tmp_path: Path) -> None:
    for n in (1, 2, 4):
        timed(tmp_path, "ald_pgd", float(n), particles=n)
    for n in (1, 2):
        timed(tmp_path, "ald_pgd", 0.1 * n, device="cuda NVIDIA", started="2026-02-01", particles=n)
    drawn = drawing.draw("ald-fig8", tmp_path)
    assert drawn.data[["setting", "seconds"]].values.tolist() == [[1, 0.1], [2, 0.2]]
    assert "cuda NVIDIA" in drawn.caption
    assert "cpu" not in drawn.caption


def test_of_two_measurements_of_one_training_the_newest_counts(tmp_path: Path) -> None:
    timed(tmp_path, "ald_pgd", 5.0, particles=2)
    timed(tmp_path, "ald_pgd", 3.0, particles=2, started="2026-03-01", device="cpu other")
    assert drawing.draw("ald-fig8", tmp_path).data["seconds"].tolist() == [3.0]


def test_every_data_set_has_a_panel(tmp_path: Path) -> None:
    for dataset in ("digits", "cifar10"):
        timed(tmp_path, "ald_pgd", 1.0, dataset=dataset, particles=1)
    drawn = drawing.draw("ald-fig8", tmp_path)
    assert drawn.canvas is not None
    assert [axes.get_title().partition(",")[0] for axes in drawn.canvas.axes] == ["cifar10", "digits"]
    first = [path.read_bytes() for path in drawing.write(drawn, tmp_path, "ald-fig8")]
    again = drawing.write(drawing.draw("ald-fig8", tmp_path), tmp_path, "ald-fig8")
    assert first == [path.read_bytes() for path in again]


def toy(results: Path) -> dict[str, Any]:
    """Two points, and models whose boundaries are x = 0 (all but ATLD's) and y = 1."""
    side = np.linspace(-1.5, 2.5, 41)
    upright = np.tile(side, (41, 1))
    flat = np.tile((np.linspace(-1.75, 2.25, 41) - 1)[:, None], (1, 41))
    names = ("standard", "pgd_at", "feature_scatter", "atld")
    found = {
        "points": [[-1.0, 0.0], [1.0, 0.5]],
        "labels": [0, 1],
        "eps": 0.2,
        "square": [-1.5, 2.5, -1.75, 2.25],
        "margins": {name: (flat if name == "atld" else upright).tolist() for name in names},
        "accuracy": {name: {"clean": 1.0, "pgd": 0.5, "adjusted": 0.25} for name in names},
        "perturbed": {name: [[place, 0.1], [place, 0.2]] for place, name in enumerate(names[1:])},
        "right": {"pgd_at": 0.5, "feature_scatter": 0.75, "atld": 1.0},
        "arrows": [[0.0, 0.0]],
        "fields": {name: [[0.6, -0.8]] for name in names},
        "attacked": [[0.1, 0.3], [0.2, 0.4]],
        "adjusted": [[0.5, 0.5], [0.6, 0.6]],
    }
    settings = {"points": 2, "noise": 0.1, "eps": 0.2, "epochs": 7}
    Measurements(results).record(Measurement("toy", {}, {"settings": settings}, found, {"started": "2026-01-01"}))
    return found


def test_the_toys_panels_show_what_their_figures_say(tmp_path: Path) -> None:
    found = toy(tmp_path)
    for id, title, expected in (
        ("atld-fig1", "ATLD", found["perturbed"]["atld"]),
        ("atld-fig4", "feature scattering", found["points"]),
        ("atld-fig6", "adjusted by IMT", found["adjusted"]),
    ):
        data = drawing.draw(id, tmp_path).data
        points = data[(data["panel"] == title) & (data["what"] == "point")]
        assert points[["x", "y"]].values.tolist() == expected
        assert points["label"].tolist() == [0, 1]
    arrows = drawing.draw("atld-fig7", tmp_path).data.query("what == 'arrow'")
    assert arrows[["x", "y", "dx", "dy"]].values.tolist() == [[0, 0, 0.6, -0.8]] * 3


def test_boundaries_are_where_the_margin_is_zero(tmp_path: Path) -> None:
    toy(tmp_path)
    data = drawing.draw("atld-fig4", tmp_path).data
    last = data[data["panel"] == "ATLD"]
    assert last.loc[last["what"] == "boundary of standard", "x"].tolist() == pytest.approx([0.0] * 41, abs=1e-9)
    assert last.loc[last["what"] == "boundary of atld", "y"].tolist() == pytest.approx([1.0] * 41, abs=1e-9)
    assert not (data[data["panel"] == "original"]["what"] == "boundary of atld").any()


def test_how_many_are_right_stands_above_the_points(tmp_path: Path) -> None:
    toy(tmp_path)
    titles = []
    for id in ("atld-fig1", "atld-fig6"):
        canvas = drawing.draw(id, tmp_path).canvas
        assert canvas is not None
        titles += [axes.get_title().partition("\n")[2] for axes in canvas.axes]
    assert titles[:4] == ["right: 100%, under PGD 50%", "50% right", "75% right", "100% right"]
    assert titles[4:] == ["right: 100%, under PGD 50%", "50% right", "25% right"]


def test_a_model_without_a_boundary_in_view_is_drawn(tmp_path: Path) -> None:
    found = toy(tmp_path)
    found["margins"]["standard"] = [[1.0] * 41] * 41
    settings = {"points": 2, "noise": 0.1, "eps": 0.2, "epochs": 8}
    newer = Measurement("toy", {"newer": True}, {"settings": settings}, found, {"started": "2026-02-01"})
    Measurements(tmp_path).record(newer)
    drawn = drawing.draw("atld-fig7", tmp_path)
    assert drawn.canvas is not None
    assert not drawn.data["what"].str.startswith("boundary").any()
    assert "8 epochs" in drawn.caption
