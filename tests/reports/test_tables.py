"""The papers' tables: what is printed, what runs measured, and nothing else."""

import csv
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from robench.ledger.measurements import Measurement, Measurements
from robench.reports import tables, typesetting
from robench.reports.evaluations import runs
from robench.reports.formats import TableFormat
from robench.reports.published import published
from robench.specs import benchmark
from robench.utils.stats import wilson
from tests.helpers import Ran
from tests.ledgers import clean, fooled, write

TABLES = benchmark.exhibits(benchmark.Table)
EARLIER, RUN, LATER = ({"started": f"2026-0{month}-01"} for month in (1, 2, 3))
PGD_AT: dict[str, Any] = {"defense": "pgd_at", "recipe": {"name": "pgd_at"}, "train_seed": 0}
PGD_AT |= {"dataset": "digits (test)", "eps": "0.2"}


def trained(
    results: Path, defense: str, *, seed: int = 0, dataset: str = "digits", eps: str = "0.2", **more: Any
) -> None:
    """A model of a defense whose attacks break one, two and three examples of the eight."""
    setup = {"arch": "wrn-28-10", "epochs": 76, "batch_size": 64, "lr": 0.1, **more.pop("setup", {})}
    recipe: dict[str, Any] = {"name": defense, "settings": more.pop("settings", {}), "setup": setup, "limit": None}
    about: dict[str, Any] = {"defense": defense, "recipe": recipe, "train_seed": seed, "eps": eps}
    about |= {
        "dataset": f"{dataset} (test)",
        "model": f"{dataset}-{defense}-{setup['epochs']}-s{seed}",
        "arch": setup["arch"],
        "trained_on": dataset,
    }
    about |= more
    clean(results, **about)
    write(results, "fgsm", fooled(0), **about)
    write(results, "pgd-20", fooled(0, seed + 1), **about)
    write(results, "feature", fooled(2, 3, 4), **about)


def test_the_printed_numbers_are_whole() -> None:
    """Each is named once, is a number in its unit, and no worst case is above an attack of its row."""
    for id in TABLES:
        numbers = published(id)
        keys = [(each.dataset, each.model, each.attack, each.metric) for each in numbers]
        assert len(set(keys)) == len(keys) > 0, id
        assert all(0 <= each.fraction <= 1 for each in numbers), id
        for worst in numbers:
            if worst.attack == "A_rob":
                row = [each for each in numbers if (each.dataset, each.model) == (worst.dataset, worst.model)]
                assert worst.fraction <= min(each.fraction for each in row), (id, worst.model)


@pytest.mark.parametrize("id", TABLES)
def test_every_line_and_column_of_a_paper_has_its_place(id: str) -> None:
    table = benchmark.load(id)
    assert isinstance(table, benchmark.Table)
    numbers = published(id)
    assert {each.model for each in numbers} == set(table.rows)
    assert {each.attack for each in numbers} == set(table.columns)
    assert {each.dataset.partition("-")[0] for each in numbers} == {table.dataset, *table.also}


@pytest.mark.parametrize("id", TABLES)
def test_what_a_table_names_exists(id: str) -> None:
    from robench.search.catalog import battery
    from robench.training import recipe

    table = benchmark.load(id)
    if any(attack != "clean" for attack in table.battery):
        assert len(battery(None, table.battery)[0]) == len(table.battery)
    for entry in table.trained:
        changes = {**table.train, **entry.settings, "eps": table.eps}
        recipe.resolve(entry.defense, table.dataset, (3, 32, 32), changes)


def test_numbers_that_are_known(robench: Callable[..., Ran]) -> None:
    """Against the papers' prose: ADT-EXP's worst case, and what ALD prints as fractions."""
    by_name = {(each.model, each.attack): each.value for each in published("adt-table1")}
    assert by_name["ADT-EXP", "A_rob"] == "50.56"
    assert by_name["AT-PGD", "clean"] == "86.91"
    assert {each.unit for each in published("ald-table2")} == {"fraction"}
    assert len({each.model for each in published("adt-table1")}) == 9


def test_without_runs_only_the_printed_is_shown(tmp_path: Path) -> None:
    (grid,) = tables.build("adt-table1", tmp_path)
    assert not grid.own.numbers
    assert not grid.others
    text = typesetting.typeset([grid], "md")
    lines = [line for line in text.splitlines() if line.startswith("| ")][2:]
    assert len(lines) == 9
    assert all("robench bench adt-table1" in line for line in lines if "released" not in line)
    assert "published only" in next(line for line in lines if "released" in line)


def test_other_data_stand_apart_and_give_no_difference(tmp_path: Path) -> None:
    trained(tmp_path, "pgd_at")
    (grid,) = tables.build("adt-table1", tmp_path)
    assert not grid.own.numbers
    (block,) = grid.others
    assert block.data == "digits, linf 0.2"
    assert {row for row, _ in block.numbers} == {"AT-PGD"}
    assert block.numbers["AT-PGD", "FGSM"].interval == wilson(6, 8)
    assert block.numbers["AT-PGD", "PGD-20"].value == 5 / 8
    worst = block.numbers["AT-PGD", "A_rob"]
    assert worst.value == 2 / 8
    assert worst.marks == ["worst case without pgd-100, mim, cw-30"]
    assert grid.difference("AT-PGD", "FGSM") is None


def test_the_worst_case_of_less_than_half_the_attacks_is_none(tmp_path: Path) -> None:
    clean(tmp_path, **PGD_AT)
    write(tmp_path, "fgsm", fooled(0), **PGD_AT)
    write(tmp_path, "mim", fooled(0), **PGD_AT)
    (block,) = tables.build("adt-table1", tmp_path)[0].others
    assert {column for _, column in block.numbers} == {"clean", "FGSM", "MIM"}


def test_of_several_trainings_the_one_most_like_the_papers_is_shown(tmp_path: Path) -> None:
    own: dict[str, Any] = {"dataset": "cifar10", "eps": "8/255"}
    trained(tmp_path, "pgd_at", **own)
    trained(tmp_path, "pgd_at", setup={"arch": "resnet18", "epochs": 5}, started="2026-03-01", **own)
    (grid,) = tables.build("adt-table1", tmp_path)
    assert grid.own.provenance["AT-PGD"].arch == "wrn-28-10"


def test_on_the_papers_data_the_difference_and_what_differs_are_said(tmp_path: Path) -> None:
    trained(tmp_path, "pgd_at", dataset="cifar10", eps="8/255", setup={"epochs": 10})
    (grid,) = tables.build("adt-table1", tmp_path)
    assert grid.difference("AT-PGD", "FGSM") == pytest.approx(6 / 8 - 0.5830)
    assert grid.own.provenance["AT-PGD"].differs == ["epochs 10 (paper: 76)", "n 8 (paper: 10000)"]
    trained(tmp_path, "alp", dataset="cifar10", eps="8/255", trained_on="svhn", trained_threat="l2 0.5")
    (grid,) = tables.build("adt-table1", tmp_path)
    assert grid.own.provenance["ALP"].differs[:2] == ["trained_on svhn (paper: cifar10)", "trained for l2 0.5"]
    assert not grid.others
    assert "75.0 [40.9, 92.9] (+16.7)*" in typesetting.typeset([grid], "md")


def test_another_radius_is_other_data(tmp_path: Path) -> None:
    trained(tmp_path, "pgd_at", dataset="cifar10", eps="0.031")
    (grid,) = tables.build("adt-table1", tmp_path)
    assert not grid.own.numbers
    assert [block.data for block in grid.others] == ["cifar10, linf 0.031"]


def test_a_number_is_over_all_that_its_attack_was_run_on(tmp_path: Path) -> None:
    clean(tmp_path, **PGD_AT)
    for attack, broken in (("fgsm", fooled(0)), ("pgd-20", fooled(0)), ("pgd-100", fooled(0, 1)[:4])):
        write(tmp_path, attack, broken, **PGD_AT)
    (block,) = tables.build("adt-table1", tmp_path)[0].others
    found = {column: (number.value, number.n) for (_, column), number in block.numbers.items()}
    wide = dict.fromkeys(("FGSM", "PGD-20"), (6 / 8, 8))
    assert found == {"clean": (7 / 8, 8), **wide, "PGD-100": (2 / 4, 4), "A_rob": (2 / 4, 4)}


def test_the_rows_are_read_once_whatever_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for seed in (0, 1):
        trained(tmp_path, "pgd_at", seed=seed)
    written = sorted(tmp_path.glob("ledger/*/part-*.parquet"))
    read = reads(monkeypatch)
    evaluated = runs(tmp_path)
    for _ in range(2):
        (block,) = tables.build("adt-table1", tmp_path, evaluated)[0].others
        assert {column for _, column in block.numbers} == {"clean", "FGSM", "PGD-20", "FeaAttack", "A_rob"}
    assert sorted(read) == written


def reads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The Parquet files whose rows are read from now on, each as often as it is."""
    found: list[Path] = []
    opened = pq.ParquetFile

    class Noted(opened):  # type: ignore[misc, valid-type]
        def __init__(self, path: Path) -> None:
            self.path = path
            super().__init__(path)

        def read(self, **options: Any) -> Any:
            found.append(self.path)
            return super().read(**options)

        def read_row_groups(self, groups: Any, **options: Any) -> Any:
            found.append(self.path)
            return super().read_row_groups(groups, **options)

    monkeypatch.setattr(pq, "ParquetFile", Noted)
    return found


def test_seeds_are_averaged(tmp_path: Path) -> None:
    for seed in (0, 1):
        trained(tmp_path, "pgd_at", seed=seed)
    write(
        tmp_path,
        "pgd-20",
        fooled(0, 1, 2, 3),
        model="digits-pgd_at-76-s1",
        started="2026-02-01",
        dataset="digits (test)",
    )
    (block,) = tables.build("adt-table1", tmp_path)[0].others
    both = block.numbers["AT-PGD", "PGD-20"]
    assert len(both.accuracies) == 2
    assert both.interval is None
    assert both.value == 5 / 8
    assert block.provenance["AT-PGD"].seeds == [0, 1]


def test_lines_of_one_defense_are_told_apart_by_their_settings(tmp_path: Path) -> None:
    trained(tmp_path, "trades", settings={"beta": 6.0})
    (block,) = tables.build("adt-table5", tmp_path)[0].others
    assert {row for row, _ in block.numbers} == {"TRADES (beta=6.0)"}


def test_transfer_is_put_under_its_source(tmp_path: Path) -> None:
    about = {
        "defense": "pgd_at",
        "recipe": {"name": "pgd_at"},
        "train_seed": 0,
        "dataset": "digits (test)",
        "eps": "0.2",
    }
    clean(tmp_path, **about)
    for source, broken in (("standard", (0,)), ("atld", (0, 1, 2))):
        name = f"digits-{source}"
        of_source: dict[str, Any] = {"sources": [name], "source_defenses": [source]}
        write(tmp_path, f"transfer-fgsm_rs from {name}", fooled(*broken), **PGD_AT, **of_source)
    (block,) = tables.build("atld-table3", tmp_path)[0].others
    found = {column: number.value for (_, column), number in block.numbers.items()}
    assert found == {"transfer from Vanilla Training (FGSM)": 6 / 8, "transfer from Ours (FGSM)": 4 / 8}


def test_attacked_accuracy_takes_the_place_of_the_adaptive_one(tmp_path: Path) -> None:
    trained(tmp_path, "atld")
    trained(tmp_path, "atld_imt")
    found = {"attacks": {"pgd-20": [7, 10]}}
    run = next(run for run in runs(tmp_path) if run.about["defense"] == "atld_imt")
    key = {"n": 10, **run.cells["clean"].key}
    Measurements(tmp_path).record(Measurement("attacked_accuracy", key, {"settings": {}}, found, RUN))
    stale = Measurement(
        "attacked_accuracy", {**key, "seed": 1}, {"settings": {}}, {"attacks": {"pgd-20": [2, 10]}}, EARLIER
    )
    Measurements(tmp_path).record(stale)
    fewer = {"attacks": {"pgd-20": [1, 5]}}
    Measurements(tmp_path).record(Measurement("attacked_accuracy", {**key, "n": 5}, {"settings": {}}, fewer, LATER))
    (block,) = tables.build("atld-table1", tmp_path)[0].others
    number = block.numbers["ATLD-IMT", "PGD20"]  # of the newest of those on the most images
    assert (number.value, number.n) == (0.7, 10)
    assert "whatever the clean prediction" in number.marks[0]
    assert block.numbers["ATLD", "PGD20"].marks == ["adaptive protocol, of images right when clean"]
    assert "| 70.0 [39.7, 89.2] (b) |" in typesetting.typeset(tables.build("atld-table1", tmp_path), "md")


def test_the_csv_has_every_number(tmp_path: Path) -> None:
    trained(tmp_path, "pgd_at")
    text = typesetting.typeset(tables.build("adt-table1", tmp_path), "csv")
    rows = list(csv.DictReader(io.StringIO(text)))
    printed = [row for row in rows if row["source"] == "published"]
    assert [float(row["accuracy"]) for row in printed] == pytest.approx([n.fraction for n in published("adt-table1")])
    (fgsm,) = (row for row in rows if row["source"] == "measured" and row["attack"] == "FGSM")
    assert (fgsm["accuracy"], fgsm["n"], fgsm["data"], fgsm["seeds"]) == ("0.75", "8", "digits, linf 0.2", "0")


def test_special_characters_are_escaped(tmp_path: Path) -> None:
    trained(tmp_path, "pgd_at", dataset="npz:<b>_x")
    grids = tables.build("adt-table1", tmp_path)
    assert "npz:&lt;b&gt;_x" in typesetting.typeset(grids, "html")
    assert "<b>" not in typesetting.typeset(grids, "html")
    assert r"C\&W" in typesetting.typeset(grids, "latex")
    assert r"npz:\textless{}b\textgreater{}\_x" in typesetting.typeset(grids, "latex")


@pytest.mark.parametrize("format", ["md", "csv", "latex", "html"])
def test_the_same_ledger_gives_the_same_bytes(tmp_path: Path, format: TableFormat) -> None:
    trained(tmp_path, "pgd_at")
    trained(tmp_path, "trades", dataset="mnist", eps="0.3")
    first, second = (typesetting.typeset(tables.build("adt-v1-table2", tmp_path), format) for _ in range(2))
    assert first == second


def test_an_unknown_table_is_one_sentence(robench: Callable[..., Ran]) -> None:
    ran = robench("table", "adt-table9")
    assert ran.code == 2
    assert "did you mean" in ran.err


def test_labels_are_part_of_the_data(tmp_path: Path) -> None:
    """CIFAR-10 with 4,000 labels is the paper's, with all of them or fewer it is not."""
    own: dict[str, Any] = {"dataset": "cifar10", "eps": "5e-4", "norm": "l2"}
    for labels in ({"labels": 4000}, {"labels": 1000}, {}):
        setup = {"arch": "conv_large", "epochs": 600, **labels}
        settings = {"particles": 4, "mixup": 0.0}
        trained(tmp_path, "vat", setup=setup, settings=settings, model=f"vat {labels}", **own)
    (grid,) = tables.build("ald-table1", tmp_path)
    assert set(grid.own.numbers) == {("VAT (n=4)", "clean")}
    assert grid.own.provenance["VAT (n=4)"].differs == ["n 8 (paper: 10000)"]
    assert grid.difference("VAT (n=4)", "clean") == pytest.approx(7 / 8 - 0.858)
    assert sorted(block.data for block in grid.others) == ["cifar10, l2 0.0005", "cifar10-1000, l2 0.0005"]
    assert grid.command == "robench bench ald-table1"
