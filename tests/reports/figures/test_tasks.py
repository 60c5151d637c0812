"""The figures of few labels and of domain adaptation, from ledgers written by hand."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from robench.reports import drawing
from robench.utils.stats import wilson
from tests.helpers import Ran
from tests.ledgers import clean


def evaluated(
    results: Path, defense: str, dataset: str, *, wrong: int = 0, started: str = "2026-01-01", **more: Any
) -> None:
    """A model of these settings that gets one of eight examples wrong."""
    setup = {"epochs": more.pop("epochs", 500), "arch": "lenet", **more.pop("setup", {})}
    seed, source = more.pop("seed", 0), more.pop("source", None)
    recipe = {
        "name": defense,
        "settings": more,
        "setup": setup,
        "limit": None,
        **({"source": source} if source else {}),
    }
    name = f"{dataset}-{defense}-{setup}-{seed}-{source}-{more}"
    about: dict[str, Any] = {"model": name, "defense": defense, "recipe": recipe, "train_seed": seed, "norm": "l2"}
    about |= {"trained_on": dataset, "dataset": f"{dataset} (test)", "trained_threat": "l2 0.1"}
    clean(results, started=started, **about)


def few(labels: int) -> dict[str, Any]:
    return {"setup": {"labels": labels}, "mixup": 0.0}


def test_a_panel_for_each_number_of_labels_the_papers_first(tmp_path: Path) -> None:
    evaluated(tmp_path, "vat", "digits", particles=1, **few(50))
    for labels in (500, 300):
        for n in (4, 1):
            evaluated(tmp_path, "vat", "mnist", particles=n, **few(labels))
        evaluated(tmp_path, "standard", "mnist", setup={"labels": labels}, epochs=7)
    evaluated(tmp_path, "ald_vat", "mnist", particles=4, kernel_scope="batch", **few(300))
    evaluated(tmp_path, "ald_vat", "mnist", particles=4, kernel_scope="example", bandwidth="median", **few(300))
    evaluated(tmp_path, "vat", "mnist", particles=2, setup={"labels": 300}, mixup=0.5)  # another method
    evaluated(tmp_path, "standard", "svhn")  # nothing to compare it with
    drawn = drawing.draw("ald-fig3", tmp_path)
    assert drawn.canvas is not None
    assert [axes.get_title() for axes in drawn.canvas.axes] == ["mnist-300", "mnist-500", "digits-50"]
    first = drawn.data[drawn.data["task"] == "mnist-300"]
    vat = first[first["model"] == "VAT"]
    assert vat["setting"].tolist() == [1, 4]
    assert vat[["value", "low", "high"]].values.tolist() == [list(wilson(7, 8))] * 2
    assert set(first["model"]) == {"VAT", "ALD, kernel over the batch", "ALD, median bandwidth", "labels alone"}
    assert first.loc[first["model"] == "labels alone", "setting"].isna().all()
    levels = [line for line in drawn.canvas.axes[0].get_lines() if line.get_linestyle() == "--"]
    assert [set(np.asarray(level.get_ydata())) for level in levels] == [{7 / 8}]
    assert "Published: Our (n=4) 77.9 % on cifar10-1000" in drawn.caption
    assert "VAT 500 epochs; " in drawn.caption
    assert "labels alone 7 epochs" in drawn.caption
    assert "Not measured yet: cifar10-1000, cifar10-4000" in drawn.caption


def test_a_panel_for_each_direction(tmp_path: Path) -> None:
    for source, target in (("mnist", "digits"), ("digits", "mnist")):
        setup = {"target_domain": target}
        evaluated(tmp_path, "vada", target, particles=1, setup=setup, source=source)
        evaluated(tmp_path, "standard", target, setup=setup, source=source)
    evaluated(tmp_path, "standard", "digits")  # taught by the target itself
    drawn = drawing.draw("ald-fig6", tmp_path)
    assert drawn.data.groupby("task")["model"].agg(set).to_dict() == {
        "mnist to digits": {"VADA", "source alone"},
        "digits to mnist": {"VADA", "source alone"},
    }
    assert "Not measured yet: svhn to mnist, mnist to svhn" in drawn.caption


@pytest.mark.parametrize("id", ["ald-fig3", "ald-fig6"])
def test_the_command_draws_what_is_there(id: str, tmp_path: Path, robench: Callable[..., Ran]) -> None:
    ran = robench("figure", id, "--results", tmp_path)
    assert "nothing is measured yet" in ran.out
    assert f"robench bench {id} --data-root FOLDER" in ran.out
    evaluated(tmp_path, "vat", "mnist", particles=1, **few(300))
    evaluated(tmp_path, "vada", "mnist", particles=1, setup={"target_domain": "mnist"}, source="digits")
    written = []
    for _ in range(2):
        assert robench("figure", id, "--results", tmp_path).code == 0
        written.append([path.read_bytes() for path in sorted((tmp_path / "figures").glob(f"{id}.*"))])
    assert written[0] == written[1]
    assert len(written[0]) == 3
