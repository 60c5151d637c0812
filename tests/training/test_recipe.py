"""Recipes: the papers' settings, on any data set and of any length."""

from dataclasses import fields
from typing import Any

import pytest

from robench.training import recipe
from robench.utils.errors import UserError


@pytest.mark.parametrize("name", recipe.names())
@pytest.mark.parametrize(
    ("dataset", "shape"), [("digits", (1, 8, 8)), ("mnist", (1, 28, 28)), ("cifar10", (3, 32, 32))]
)
def test_every_recipe_resolves_for_every_data_set(name: str, dataset: str, shape: tuple[int, ...]) -> None:
    resolved = recipe.resolve(name, dataset, shape, {})
    assert resolved.settings_of == dataset
    if resolved.setup.norm == "linf":
        assert resolved.setup.eps == {"digits": 0.2, "mnist": 0.3}.get(dataset, resolved.setup.eps)
    assert recipe.resolve(name, "npz:x", shape, {}).describe() == resolved.describe()


def test_recipes_carry_the_papers_settings() -> None:
    shape = (3, 32, 32)
    ald = recipe.resolve("ald_trades", "cifar10", shape, {})
    assert ald.threat.eps_written == "0.031"
    settings = {field.name: getattr(ald.defense, field.name) for field in fields(ald.defense)}
    assert settings == {
        "loss": "kl",
        "weight": 6,
        "particles": 4,
        "steps": 10,
        "step_size": "0.007",
        "start": "near_uniform",
        "kernel_scope": "example",
        "bandwidth": "paper",
    }
    assert (ald.setup.batch_size, ald.setup.epochs, ald.setup.drops) == (100, 100, [75, 90])
    assert (ald.setup.lr, ald.setup.momentum, ald.setup.weight_decay) == (0.1, 0.9, 5e-4)
    adt = recipe.resolve("adt_exp", "svhn", shape, {})
    assert (adt.setup.eps, adt.setup.augment, adt.setup.epochs) == ("4/255", [], 76)
    trades = recipe.resolve("trades", "mnist", (1, 28, 28), {})
    assert (trades.setup.arch, trades.setup.lr, trades.setup.drops) == ("small_cnn", 0.01, [55, 75, 90])


def test_drops_and_warm_up_scale_with_the_length() -> None:
    setup = recipe.resolve("ald_pgd", "mnist", (1, 28, 28), {"epochs": 20}).setup
    assert (setup.drops, setup.eps_warmup) == ([15, 18], 2)
    kept = recipe.resolve("ald_pgd", "mnist", (1, 28, 28), {"epochs": 20, "drops": [19], "eps_warmup": 7}).setup
    assert (kept.drops, kept.eps_warmup) == ([19], 7)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"beta_": 1}, "did you mean 'beta'"),
        ({"beta": "six"}, "valid number"),
        ({"beta": -1}, "at least 0"),
        ({"step_size": "eps/0"}, "divides by zero"),
        ({"eps": -0.1}, "expected"),
        ({"epochs": -1}, "greater than 0"),
        ({"lr": 0}, "greater than 0"),
        ({"arch": 5}, "valid string"),
        ({"start": "somewhere"}, "ball"),
        ({"norm": "l9"}, "linf"),
    ],
)
def test_wrong_settings_are_refused_in_one_sentence(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        recipe.resolve("trades", "digits", (1, 8, 8), changes)
    assert "\n" not in str(caught.value)


def test_an_unknown_recipe_names_the_nearest() -> None:
    with pytest.raises(UserError, match="did you mean 'trades'"):
        recipe.resolve("tradse", "digits", (1, 8, 8), {})
