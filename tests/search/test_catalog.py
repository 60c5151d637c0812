"""Attacks by name and as they are written."""

import pytest

from robench.search import sees
from robench.search.catalog import attack, configure
from robench.search.search import Search
from robench.specs.suite import suite
from robench.utils import registry
from robench.utils.errors import UserError


def test_the_catalog_serves_the_names_of_the_papers() -> None:
    wanted = {"fgsm", "fgsm_rs", "mim", *(f"pgd-{n}" for n in (10, 20, 40, 100, 200))}
    wanted |= {f"cw-{n}" for n in (20, 30, 40, 100)}
    assert wanted <= set(registry.attack_catalog())
    for name in registry.attack_catalog():
        assert attack(name).name == name
    assert attack("pgd-200").settings == {"steps": 200, "step_size": "eps/4", "random_start": True}


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("pdg-20", "pgd-20"),
        ("pgd-20:stpes=3", "did you mean 'steps'"),
        ("pgd-20:steps=many", "valid integer"),
        ("pgd-20:steps=0", "at least 1"),
        ("pgd-20:restarts=-1", "at least 1"),
        ("pgd-20:step_size=-0.1", "expected a positive number"),
        ("no_such.py", "there is no file"),
    ],
)
def test_a_wrong_attack_is_refused_in_one_sentence(written: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        attack(written)
    assert "\n" not in str(caught.value)


def test_settings_that_have_no_default_must_be_given() -> None:
    @sees("labels")
    def needy(search: Search, *, budget: int) -> None: ...

    with pytest.raises(UserError, match="budget"):
        configure(needy, {}, name="needy")


def test_every_suite_names_attacks_that_exist() -> None:
    for name in registry.names("benchmarks", "suites/*.yaml"):
        for written in suite(name).attacks:
            attack(written)


def test_the_versions_of_an_attacks_libraries_are_in_its_key() -> None:
    from importlib.metadata import version

    assert attack("square").key()["libraries"] == {"pyautoattack": version("pyautoattack")}
    assert attack("pgd-20").key()["libraries"] == {}


@pytest.mark.parametrize(
    ("written", "accesses"),
    [
        ("autoattack", {"gradients", "scores"}),
        ("autoattack-rand", {"gradients"}),
        ("apgd-ce", {"gradients"}),
        ("apgd-squares", {"gradients", "scores"}),
        ("in_turn:first=rays,then=squares", {"labels", "scores"}),
        ("transfer", {"labels"}),  # what it drives, it drives on another model
    ],
)
def test_an_attack_knows_what_its_parts_go_by(written: str, accesses: set[str]) -> None:
    assert {sight.access for sight in attack(written).sights(10, stochastic=False).values()} == accesses
    assert "square" not in attack("autoattack").sights(10, stochastic=True)
