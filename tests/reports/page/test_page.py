"""The leaderboard's page: its numbers, its bytes, hostile names, broken ledgers."""

import json
import re
import warnings
from collections.abc import Callable
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from robench.ledger.cell import Cell
from robench.ledger.findings import POINTS
from robench.ledger.schema import CLEAN, DIAGNOSIS
from robench.ledger.store import Ledger
from robench.reports import page, ranking
from robench.reports.evaluations import LedgerWarning, runs
from robench.reports.page.details import CLASSES, Details, written
from robench.reports.page.groups import COLOURS
from robench.reports.page.plot import HEIGHT, LINE, plots
from robench.utils.errors import UserError
from robench.utils.stats import wilson
from tests.exhibition import HOSTILE, Breaks, N, cell, exhibit, mistaken
from tests.helpers import Ran

DASH = "\N{EN DASH}"


class Page(HTMLParser):
    """The cells of every table row, with their ids; elements, and the scripts' text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.values: list[list[str | None]] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self._inside: str | None = None
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag == "tr":
            self.rows.append([])
            self.values.append([])
        elif tag in ("td", "th") and self.rows:
            self.rows[-1].append("")
            self.values[-1].append(dict(attrs).get("data-value"))
        elif tag == "script":
            self.scripts.append("")
        if tag in ("td", "th", "script"):
            self._inside = tag

    def handle_endtag(self, tag: str) -> None:
        if tag == self._inside:
            self._inside = None

    def handle_data(self, data: str) -> None:
        if self._inside == "script":
            self.scripts[-1] += data
        elif self._inside:
            self.rows[-1][-1] = f"{self.rows[-1][-1]} {data.strip()}".strip()

    def attributes(self, tag: str, name: str) -> list[str]:
        return [str(attrs[name]) for element, attrs in self.elements if element == tag and name in attrs]


def details(results: Path, model: str, eps: str = "0.1") -> Details:
    (run,) = [run for run in runs(results) if run.about["model"] == model and run.about["eps"] == eps]
    series = {name: place for place, name in enumerate(sorted(run.summary.attacks))}
    return Details(run, "/model/x", 1, 1, series, None, [], None, None)


def render(results: Path) -> str:
    return page.render(page.survey(results))


def test_the_numbers_are_those_of_the_ledger(tmp_path: Path) -> None:
    """Each row again, from what the cells hold example by example."""
    exhibit(tmp_path)
    rows = Page(render(tmp_path)).values
    shown = {(row[0], row[2], row[5]) for row in rows if len(row) > 6 and row[2] and row[5]}
    expected = set()
    for run in runs(tmp_path):
        fallen: set[int] = set()
        for name, each in run.cells.items():
            frame = each.rows()
            if name not in (CLEAN, DIAGNOSIS):
                fallen |= set(frame.loc[frame["fooled"].astype(bool), "example"])
        clean = sum(not mistaken(i) for i in range(N)) / N
        expected.add((f"{1 - len(fallen) / N:.6g}", f"{clean:.6g}"))
    assert {(worst, clean) for _, worst, clean in shown} == expected
    assert len([row for row in rows if len(row) > 6 and row[2] and row[5]]) == 6


def test_a_views_numbers_are_those_of_the_ledger(tmp_path: Path) -> None:
    exhibit(tmp_path)
    model = details(tmp_path, "strong")
    assert [(attack.name, attack.course.cost) for attack in model.attacks] == [
        ("fgsm", 2 * 117 / 120),
        ("pgd-20", 40 * 117 / 120),
        ("square", 500 * 117 / 120),
    ]
    breaks: list[Breaks] = [lambda i: i % 10 == 0, lambda i: i % 5 == 0 or i % 4 == 3, lambda i: i % 20 == 1]
    for end, attack in enumerate(model.attacks, 1):
        standing = [not mistaken(i) and not any(broken(i) for broken in breaks[:end]) for i in range(N)]
        assert attack.course.left == sum(standing) / N
    assert model.run.summary.worst_case is not None
    assert model.attacks[-1].course.left == model.run.summary.worst_case.value
    standing = [not mistaken(i) and not any(broken(i) for broken in breaks) for i in range(N)]
    assert [each.label for each in model.classes] == [0, 1, 2, 3]
    for each in model.classes:
        assert each.worst_case == wilson(sum(standing[each.label :: 4]), 30)
        assert each.clean == wilson(sum(not mistaken(i) for i in range(each.label, N, 4)), 30)


def test_a_curve_falls_when_examples_do(tmp_path: Path) -> None:
    exhibit(tmp_path)
    fgsm, pgd, square = details(tmp_path, "strong").attacks
    assert fgsm.course.curve == square.course.curve == []
    falls = {i: i % 7 for i in range(N) if (i % 5 == 0 or i % 4 == 3) and not mistaken(i)}
    clean = sum(not mistaken(i) for i in range(N))
    expected = [(step, (clean - sum(fell <= step for fell in falls.values())) / N) for step in range(7)]
    assert pgd.course.curve == [(0, clean / N), *expected, (20, expected[-1][1])]


def test_a_long_curve_keeps_its_ends(tmp_path: Path) -> None:
    begun = cell(tmp_path, "clean", model="m", n=2000)
    cell(tmp_path, "pgd-20", lambda i: True, model="m", n=2000, steps=20, cost=1)
    table = begun.table()  # as pgd-20's, but every example falls at a step of its own
    (attacked,) = [each for each in Ledger(tmp_path).cells() if each.about["attack"] == "pgd-20"]
    for part in attacked.path.glob("part-*"):
        part.unlink()
    rows = table.to_pydict()
    rows["fooled"], rows["first_step"] = [True] * 2000, [None if mistaken(i) else i for i in range(2000)]
    rows["forwards"] = [1] * 2000
    attacked.append(table.from_pydict(rows, schema=table.schema))
    (attack,) = details(tmp_path, "m").attacks
    assert len(attack.course.curve) <= POINTS + 2
    assert attack.course.curve[0] == (0, 0.975)
    assert attack.course.curve[-1] == (1998, 0.0)
    for step, accuracy in attack.course.curve[1:-1]:
        assert accuracy == sum(i > step and not mistaken(i) for i in range(2000)) / 2000


def test_an_attack_that_was_spared_some_has_no_curve_but_counts(tmp_path: Path) -> None:
    cell(tmp_path, "clean", model="m")
    cell(tmp_path, "pgd-20", lambda i: i < 50, steps=20, cost=20, model="m")
    cell(tmp_path, "cw-30", steps=30, cost=30, model="m", status="skipped")
    skipping = details(tmp_path, "m").attacks[1]
    assert (skipping.course.curve, skipping.course.left, skipping.found.accuracy) == ([], 0.0, None)
    assert "cw-30" in render(tmp_path)


def test_of_many_classes_the_lowest_are_shown(tmp_path: Path) -> None:
    for attack in ("clean", "pgd-20"):
        begun = cell(tmp_path, attack, lambda i: i >= 60, model="m", cost=2)
        table = begun.table().to_pydict()
        table["label"] = table["clean_prediction"] = list(range(N))
        for part in begun.path.glob("part-*"):
            part.unlink()
        begun.append(begun.table().from_pydict(table, schema=begun.table().schema))
    model = details(tmp_path, "m")
    assert [each.label for each in model.classes] == [39, *range(60, 59 + CLASSES)]
    assert f"The {CLASSES} lowest of {N}." in render(tmp_path)


@pytest.mark.parametrize("every", [1, 2])
def test_labels_of_a_plot_do_not_cover_each_other(tmp_path: Path, every: int) -> None:
    cell(tmp_path, "clean", model="m")
    names = [f"pgd-{steps}" for steps in range(20, 30)]
    for name in names:
        cell(tmp_path, name, lambda i: i % every == 0, model="m", steps=20, cost=20)
    model = details(tmp_path, "m")
    steps, cost = plots(model)
    for plot, labels in ((steps, names), (cost, [*names, "worst case"])):
        assert sorted(label.text.rpartition(" ")[0] for label in plot.labels) == labels
        heights = [label.y for label in plot.labels]
        assert min(b - a for a, b in pairwise(heights)) >= LINE - 1e-9
        assert 0 < heights[0] < heights[-1] < HEIGHT


def test_the_same_ledger_gives_the_same_bytes_wherever_it_lies(tmp_path: Path) -> None:
    for name in ("one", "two"):
        exhibit(tmp_path / name)
        cell(tmp_path / name, "clean", model="broken").path.joinpath("cell.json").write_text("{")
    with pytest.warns(LedgerWarning):
        one, two = (page.write(page.survey(tmp_path / name), tmp_path / name) for name in ("one", "two"))
    assert one == two
    assert (tmp_path / "one" / "leaderboard.html").read_text() == one
    assert str(tmp_path) not in one


def test_names_are_text_whatever_they_hold(tmp_path: Path) -> None:
    exhibit(tmp_path)
    about: dict[str, Any] = {"arch": HOSTILE, "defense": HOSTILE, "dataset": HOSTILE, "eps": HOSTILE}
    about |= {"recipe": {"settings": {"<b>": HOSTILE}}}
    cell(tmp_path, "clean", model=HOSTILE, **about)
    cell(tmp_path, HOSTILE, lambda i: True, model=HOSTILE, cost=5, **about)
    cell(tmp_path, "begun", model=HOSTILE, n=0, **about)
    parsed = Page(render(tmp_path))
    assert parsed.scripts == [(Path(page.__file__).parent / "script.js").read_text()]
    assert not [attrs for _, attrs in parsed.elements for name in attrs if name.startswith("on")]
    assert {source.partition(",")[0] for source in parsed.attributes("img", "src")} == {"data:image/png;base64"}
    assert any(HOSTILE in cell for row in parsed.rows for cell in row)


def test_the_page_asks_for_nothing(tmp_path: Path) -> None:
    exhibit(tmp_path)
    parsed = Page(render(tmp_path))
    linked = [attrs.get(name) or "" for _, attrs in parsed.elements for name in ("href", "src") if name in attrs]
    assert {link[:1] for link in linked if not link.startswith("data:")} == {"#"}
    (policy,) = [attrs["content"] for tag, attrs in parsed.elements if tag == "meta" and "http-equiv" in attrs]
    assert str(policy).startswith("default-src 'none'")


def test_every_link_leads_to_a_view_of_its_own(tmp_path: Path) -> None:
    exhibit(tmp_path)
    parsed = Page(render(tmp_path))
    ids = [str(attrs["id"]) for _, attrs in parsed.elements if attrs.get("id")]
    assert len(ids) == len(set(ids))
    views = parsed.attributes("article", "id")
    assert len(views) == 6
    links = {link[1:] for link in parsed.attributes("a", "href")}
    assert links <= set(ids)
    assert set(views) <= links


def test_the_order_and_the_ranks_are_the_leaderboards(tmp_path: Path) -> None:
    exhibit(tmp_path)
    frame = ranking.leaderboard(tmp_path)
    verdicts = ("reliable", "provisional", "unreliable")
    rows = [row for row in Page(render(tmp_path)).rows if len(row) > 6 and row[4] in verdicts]
    table = [row for row in rows if row[0].isdigit() or row[0] == DASH]
    assert [row[1].split(" ")[0] for row in table] == [str(name).split(" ")[0] for name in frame["model"]]
    assert [row[0] for row in table] == ["1", "1", DASH, "1", "1", "1"]  # two seeds; two that met pgd-20 alone
    assert [row[0].replace(DASH, "") for row in table] == ["" if pd.isna(rank) else str(rank) for rank in frame["rank"]]


def test_an_unreliable_row_gives_its_reason(tmp_path: Path) -> None:
    exhibit(tmp_path)
    (row,) = [row for row in Page(render(tmp_path)).rows if row[:1] == [DASH]]
    assert "square, without gradients, breaks" in row[1]


def test_seeds_of_a_recipe_stand_together(tmp_path: Path) -> None:
    exhibit(tmp_path)
    rows = Page(render(tmp_path)).rows
    strong, second = (0.55, 0.5)
    mean, spread = (strong + second) / 2, abs(strong - second) / 2**0.5
    assert ["trades", "2", f"{100 * mean:.1f} ± {100 * spread:.1f}", "97.5 ± 0.0", "seed 0 seed 1"] in rows


def test_provenance_says_what_made_the_run(tmp_path: Path) -> None:
    exhibit(tmp_path)
    (made,) = details(tmp_path, "strong").made
    assert made.command == "robench bench toy"
    assert made.facts["commit"] == "c0ffee with changes"
    assert sorted(made.of) == ["clean", "diagnosis", "fgsm", "pgd-20", "square"]
    text = render(tmp_path)
    for fact in ("<code>robench bench toy</code>", "weight</dt><dd>6.0", "pgd-20(steps=20, restarts=1, seed=0)"):
        assert fact in text


def test_an_attack_is_written_as_a_call() -> None:
    inner = {"function": "pgd", "settings": {"steps": 20}, "restarts": 2}
    key = {"function": "transfer", "settings": {"attack": inner}, "restarts": 1, "seed": 3}
    assert written(key) == "transfer(attack=pgd(steps=20, restarts=2), restarts=1, seed=3)"


def test_pictures_are_shown_beside_the_run_they_are_of(tmp_path: Path) -> None:
    exhibit(tmp_path)
    text = render(tmp_path)
    assert Page(text).elements.count(("section", {})) > 0
    assert text.count('<div class="gallery">') == 1
    first = text.index('<div class="gallery">')
    assert text.rfind("<article", 0, first) == text.index('<article class="model" id="/model/strong-')
    for words in ("taken for <b>3</b> at linf 0.1", "stands", "taken for <b>0</b> as it is, not attacked"):
        assert words in text


def test_pictures_beyond_the_budget_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    exhibit(tmp_path)
    monkeypatch.setattr(page, "PICTURES", 10)
    assert 'class="gallery"' not in render(tmp_path)


def damage_cell(results: Path, of: Cell) -> None:
    (of.path / "cell.json").write_text('{"key": {}')


def lose_a_name(results: Path, of: Cell) -> None:
    path = of.path / "cell.json"
    document = json.loads(path.read_text().replace('"recipe"', '"recipes"'))
    path.write_text(json.dumps({name: document[name] for name in ("key", "about", "run")}))


def cut_a_part(results: Path, of: Cell) -> None:
    (part,) = of.path.glob("part-*.parquet")
    part.write_bytes(part.read_bytes()[:100])


def spoil_a_part(results: Path, of: Cell) -> None:
    (part,) = of.path.glob("part-*.parquet")
    whole = bytearray(part.read_bytes())
    whole[8:1000] = bytes(992)  # the footer still reads
    part.unlink()
    (of.path / "part-0.parquet").write_bytes(bytes(whole))  # of a version that kept no checksum


def damage_a_gallery(results: Path, of: Cell) -> None:
    (path,) = (results / "measurements").glob("gallery-*.json")
    path.write_text("[")


def age_a_gallery(results: Path, of: Cell) -> None:
    (path,) = (results / "measurements").glob("gallery-*.json")
    document = json.loads(path.read_text().replace('"magnified"', '"scale"'))
    del document["checksum"]
    path.write_text(json.dumps(document))


@pytest.mark.parametrize(
    ("damage", "message", "models"),
    [
        (damage_cell, r"ledger/\w+/cell.json cannot be read", 5),
        (lose_a_name, r"ledger/\w+/cell.json lacks recipe; remove the folder", 5),
        (cut_a_part, r"ledger/\w+/part-[\w.]+ cannot be read", 5),
        (spoil_a_part, "weak on toy (test), linf 0.1 cannot be shown", 5),
        (damage_a_gallery, r"measurements/gallery-\w+.json cannot be read", 6),
        (age_a_gallery, "the gallery of strong is not one of this robench", 6),
    ],
)
def test_what_cannot_be_read_is_said_and_hides_nothing_else(
    damage: Callable[[Path, Cell], None], message: str, models: int, tmp_path: Path, robench: Callable[..., Ran]
) -> None:
    exhibit(tmp_path)
    weak = [each for each in Ledger(tmp_path).cells() if each.about["model"] == "weak"]
    (of,) = [each for each in weak if each.about["attack"] == CLEAN]
    damage(tmp_path, of)
    with pytest.warns(LedgerWarning, match="left out: "):
        text = render(tmp_path)
    assert re.search(message.replace("(test)", r"\(test\)"), text)
    assert "What is missing" in text
    assert text.count("<article") == models
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        ran = robench("leaderboard", "--format", "html", "--results", tmp_path)
    assert (ran.code, ran.out) == (0, text)
    attacks = [line for line in ran.err.splitlines() if "cannot be counted without its clean predictions" in line]
    assert ran.err.count("left out: ") == 1 + len(attacks)
    assert bool(attacks) == (damage in (damage_cell, lose_a_name, cut_a_part))


def test_what_has_not_ended_is_said(tmp_path: Path) -> None:
    exhibit(tmp_path)
    cell(tmp_path, "mim", model="weak", n=0)
    cell(tmp_path, "cw-30", lambda i: False, model="weak", n=60)
    cell(tmp_path, "pgd-20", model="unseen")
    found = page.survey(tmp_path)
    assert found.unread == []
    assert found.unfinished == [
        "unseen on toy (test), linf 0.1 has no clean predictions yet; to go on: robench bench toy",
        "weak on toy (test), linf 0.1: cw-30 has 60 of 120 examples, so all accuracies of this model are over 60; "
        "to go on: robench bench toy",
        "weak on toy (test), linf 0.1: mim has 0 of 120 examples and is left out; to go on: robench bench toy",
    ]
    assert "Was started and has not ended" in page.render(found)


def test_an_empty_ledger_says_what_fills_it(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="robench bench quickstart"):
        page.survey(tmp_path)


def test_a_model_that_nothing_attacked_has_a_view(tmp_path: Path) -> None:
    cell(tmp_path, "clean", model="m")
    text = render(tmp_path)
    assert "<article" in text
    assert ">nan<" not in text


def test_the_command_writes_all_three_and_prints_one(tmp_path: Path, robench: Callable[..., Ran]) -> None:
    exhibit(tmp_path)
    latex = robench("leaderboard", "--format", "latex", "--results", tmp_path).out
    assert latex.count(r"\begin{tabular}") == 4
    assert r"$" not in latex
    assert r"\textless{}/script\textgreater{}" in latex
    ends = [line for line in latex.splitlines() if line.endswith(r"\\")]
    assert {line.count(" & ") for line in ends[:3]} == {8}
    html = robench("leaderboard", "--format", "html", "--results", tmp_path).out
    for suffix in ("csv", "md", "html"):
        assert (tmp_path / f"leaderboard.{suffix}").is_file()
    assert (tmp_path / "leaderboard.html").read_text() == html


def luminance(colour: str) -> float:
    """Relative luminance of sRGB, as WCAG 2.1 defines it."""
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("mode", ["light", "dark"])
def test_text_and_lines_stand_out(mode: str) -> None:
    style = (Path(page.__file__).parent / "style.css").read_text()
    light, dark = (dict(re.findall(r"--([\w-]+): (#\w{6})", block)) for block in style.split("@media", 2)[:2])
    colours = light if mode == "light" else {**light, **dark}

    def contrast(one: str, other: str) -> float:
        low, high = sorted((luminance(colours[one]), luminance(colours[other])))
        return (high + 0.05) / (low + 0.05)

    for ground in ("page", "surface"):
        for text in ("ink", "quiet", "accent", "good", "open", "bad"):
            assert contrast(text, ground) >= 4.5, (text, ground)
        for line in [f"s{place}" for place in range(COLOURS + 1)]:
            assert contrast(line, ground) >= 3, (line, ground)
    assert contrast("bad", "bad-wash") >= 4.5
