"""What README and the guide say can be typed can be."""

import ast
import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import typer

from robench.cli.main import app
from robench.data import catalog
from robench.utils.errors import UserError
from tests import ROOT
from tests.helpers import Ran

PAGES = [ROOT / "README.md", ROOT / "docs" / "guide.md"]


def blocks(page: Path, language: str) -> list[str]:
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", page.read_text(), re.DOTALL | re.MULTILINE)
    return [code for written, code in fenced if written == language]


def commands() -> Iterator[str]:
    for page in PAGES:
        for line in "\n".join(blocks(page, "")).splitlines():
            for part in line.partition(" #")[0].split("&&"):
                if part.strip().startswith("robench "):
                    yield part.strip()


@pytest.mark.parametrize("command", sorted(set(commands())))
def test_every_command_is_one(command: str) -> None:
    """It parses: the command exists, and so do its options."""
    name, *arguments = shlex.split(command)[1:]
    group = typer.main.get_command(app)
    context = group.make_context("robench", [name, *arguments], resilient_parsing=False)
    found = group.get_command(context, name)  # type: ignore[attr-defined]
    assert found is not None, name
    found.make_context(name, arguments)


def test_every_table_figure_benchmark_and_suite_that_is_named_exists() -> None:
    from robench.specs import benchmark
    from robench.utils import registry

    known = {*benchmark.names(), *benchmark.exhibits(benchmark.Table), *benchmark.exhibits(benchmark.Figure)}
    suites = registry.names("benchmarks", "suites/*.yaml")
    for command in commands():
        if found := re.search(r"robench (?:bench|table|figure) ([\w-]+)(?= |$)", command):
            assert found[1] in known or found[1] == "mine", command
        for suite in re.findall(r"--suite (\w+)", command):
            assert suite in suites


def test_the_attack_the_defense_and_the_network_of_the_guide_run(in_tmp: Path, robench: Callable[..., Ran]) -> None:
    for code in blocks(ROOT / "docs" / "guide.md", "python"):
        if named := re.match(r"# (my_\w+\.py)", code):
            Path(named[1]).write_text(code)
    of_guide = ("--defense", "./my_defense.py", "--arch", "./my_network.py")
    trained = robench("train", *of_guide, "--set", "steps=2", "--epochs", 1, "--out", "ckpt.pt")
    assert trained.code == 0, trained.err
    ran = robench(
        "eval",
        "--model",
        "ckpt.pt",
        "--arch",
        "./my_network.py",
        "--attack",
        "./my_attack.py:steps=20",
        "--attack",
        "./my_towards.py",
        "--n",
        20,
        "--format",
        "csv",
    )
    assert ran.code == 0, ran.err
    assert "my_attack" in ran.out


def test_the_data_set_of_the_guide_is_an_entry(tmp_path: Path) -> None:
    (code,) = (code for code in blocks(ROOT / "docs" / "guide.md", "python") if code.startswith("Dataset("))
    entry = eval(code, vars(catalog))
    assert entry.like in catalog.DATASETS
    with pytest.raises(UserError, match="dataset usps is not complete"):
        entry.read("test", tmp_path, False)


def test_links_lead_somewhere() -> None:
    for page in PAGES:
        text = page.read_text()
        headings = {re.sub(r"[^\w -]", "", line).strip().lower().replace(" ", "-") for line in text.splitlines()}
        for target in re.findall(r"\]\(([^)]+)\)", text):
            path, _, anchor = target.partition("#")
            assert not path or (page.parent / path).exists(), target
            assert path or anchor in headings, target


def test_the_tree_names_every_room_and_each_says_what_it_is() -> None:
    tree = (ROOT / "README.md").read_text()
    rooms = [path.parent for path in (ROOT / "robench").glob("*/__init__.py")]
    assert all(f"{room.name}/" in tree for room in rooms)
    inner = (ROOT / "robench").glob("*/*/__init__.py")
    for path in (*(room / "__init__.py" for room in rooms), *inner):
        assert ast.get_docstring(ast.parse(path.read_text())), path
