"""The leaderboard's page in headless Chromium: it sorts, filters, leads to a view and back, with no error."""

import shutil
from collections.abc import Iterator
from typing import Literal

import pytest

from robench.reports import page
from tests.exhibition import HOSTILE, Breaks, cell, exhibit

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright, of the development group, is not installed")
from playwright.sync_api import Browser, Dialog, Page, expect  # noqa: E402

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium here (apt-get install chromium)")

WORST = {"b": 80, HOSTILE: 60, "c": 40, "a": 20}
"""examples of 100 that AutoAttack leaves, and the models' names, in no order of theirs"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_api.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    results = tmp_path_factory.mktemp("results")
    exhibit(results)
    page.write(page.survey(results), results)
    return page.path(results).as_uri()


@pytest.fixture(scope="module")
def one_table(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A page of models that met AutoAttack: two of them FGSM too, and one in errors."""
    results = tmp_path_factory.mktemp("results")
    for name, left in WORST.items():
        cell(results, "clean", model=name, n=100)
        cell(results, "autoattack", _all_but(left), model=name, n=100, cost=1)
    for name, left in (("b", 90), ("c", 95)):
        cell(results, "fgsm", _all_but(left), model=name, n=100, cost=1)
    cell(results, "clean", model="failed", n=100)
    cell(results, "autoattack", model="failed", n=100, status="error")
    page.write(page.survey(results), results)
    return page.path(results).as_uri()


def _all_but(left: int) -> Breaks:
    return lambda example: example >= left


@pytest.fixture
def opened(browser: Browser, address: str) -> Iterator[Page]:
    yield from _opened(browser, address)


@pytest.fixture
def table(browser: Browser, one_table: str) -> Iterator[Page]:
    yield from _opened(browser, one_table)


def _opened(browser: Browser, address: str) -> Iterator[Page]:
    """The page, which must ask for nothing but itself and complain of nothing."""
    context = browser.new_context(viewport={"width": 1200, "height": 900})
    tab = context.new_page()
    said: list[str] = []

    def refuse(dialog: Dialog) -> None:
        said.append(dialog.message)
        dialog.dismiss()

    tab.on("console", lambda message: said.append(message.text))
    tab.on("pageerror", lambda error: said.append(str(error)))
    tab.on("request", lambda request: said.append(request.url))
    tab.on("dialog", refuse)
    tab.goto(address)
    yield tab
    context.close()
    assert [text for text in said if not text.startswith((address, "data:", "about:"))] == []


def models(tab: Page) -> list[str]:
    """Those shown, from above, of all tables."""
    return tab.locator("table.leaderboard tr[data-text]:visible th a").all_inner_texts()


def press(tab: Page, header: str) -> None:
    tab.locator("table.leaderboard").first.get_by_role("button", name=header, exact=True).press("Enter")


def sorted_by(tab: Page) -> dict[str, str | None]:
    headers = tab.locator("table.leaderboard").first.locator("th[aria-sort]").all()
    return {header.inner_text(): header.get_attribute("aria-sort") for header in headers}


def test_a_header_sorts_by_keyboard(table: Page) -> None:
    best_first = [*WORST, "failed"]
    assert models(table) == best_first
    assert sorted_by(table) == {"worst case": "descending"}
    press(table, "worst case")
    assert sorted_by(table) == {"worst case": "ascending"}
    assert models(table) == [*reversed(WORST), "failed"]
    press(table, "model")
    assert sorted_by(table) == {"model": "ascending"}
    assert models(table) == [*sorted(WORST), "failed"]
    press(table, "model")
    assert models(table) == [*sorted(WORST, reverse=True), "failed"]
    press(table, "#")
    assert models(table) == best_first


def test_rows_without_a_value_stay_last(table: Page) -> None:
    for order in (["c", "b"], ["b", "c"]):
        press(table, "fgsm")
        assert models(table)[:2] == order
        assert set(models(table)[2:4]) == {HOSTILE, "a"}


def test_choices_and_words_filter(opened: Page) -> None:
    groups = opened.locator(".group:visible")
    opened.get_by_label("Verdict").select_option("reliable")
    assert models(opened) == ["strong", "strong-1"]
    expect(groups).to_have_count(1)
    expect(opened.get_by_role("status")).to_have_text("2 of 6 shown")
    assert not opened.get_by_text("Not ranked:").is_visible()
    opened.get_by_role("button", name="Clear").click()
    expect(groups).to_have_count(4)
    assert len(models(opened)) == 6
    opened.get_by_label("Threat").select_option("linf 0.2")
    expect(groups).to_have_count(1)
    opened.get_by_role("button", name="Clear").click()
    opened.get_by_label("Defense").select_option("standard")
    assert models(opened) == [HOSTILE, "weak"]
    opened.get_by_label("Search").fill("STANDARD wea")
    assert models(opened) == ["weak"]
    opened.get_by_label("Search").fill("nothing like it")
    expect(groups).to_have_count(0)
    expect(opened.get_by_role("status")).to_have_text("0 of 6 shown")


def test_a_link_leads_to_a_view_and_back(opened: Page) -> None:
    opened.get_by_label("Verdict").select_option("reliable")
    link = opened.get_by_role("link", name="strong-1", exact=True).first
    link.press("Enter")
    heading = opened.get_by_role("heading", name="strong-1", exact=True)
    expect(heading).to_be_focused()
    expect(opened).to_have_title("strong-1, Robustness leaderboard")
    expect(opened.get_by_role("heading", level=1)).to_be_hidden()
    assert opened.locator("article:visible").count() == 1
    opened.go_back()
    expect(link).to_be_focused()
    expect(opened).to_have_title("Robustness leaderboard")
    assert models(opened) == ["strong", "strong-1"]
    opened.go_forward()
    expect(heading).to_be_focused()
    opened.get_by_role("link", name="previous").click()
    expect(opened.get_by_role("heading", name="strong", exact=True)).to_be_focused()
    opened.get_by_role("link", name="Leaderboard").click()
    expect(opened.get_by_role("heading", level=1)).to_be_visible()


def test_an_address_opens_its_view(opened: Page, address: str) -> None:
    where = opened.get_by_role("link", name="masked").get_attribute("href")
    opened.goto("about:blank")
    opened.goto(f"{address}{where}")
    expect(opened.get_by_role("heading", name="masked")).to_be_focused()
    opened.goto("about:blank")
    opened.goto(f"{address}#/model/gone")
    expect(opened.get_by_role("heading", level=1)).to_be_visible()


def test_without_javascript_everything_is_there(browser: Browser, address: str) -> None:
    context = browser.new_context(java_script_enabled=False)
    tab = context.new_page()
    tab.goto(address)
    assert len(tab.locator("tr[data-text]").all()) == 6
    assert not tab.locator("#filters").is_visible()
    tab.get_by_role("link", name="masked").click()
    assert tab.get_by_role("heading", name="masked").is_visible()
    assert not tab.locator("#leaderboard").is_visible()
    context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_scrolls_tables_and_not_the_page(
    browser: Browser, address: str, scheme: Literal["light", "dark"]
) -> None:
    context = browser.new_context(viewport={"width": 390, "height": 844}, color_scheme=scheme)
    tab = context.new_page()
    tab.goto(address)
    ground = tab.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (ground == "rgb(16, 16, 17)") == (scheme == "dark")
    for _ in range(2):
        assert tab.evaluate("document.documentElement.scrollWidth") == 390
        tab.get_by_role("link", name="strong", exact=True).first.click()
    context.close()
