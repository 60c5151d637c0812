"""Logits are found in whatever a model gives, or are asked for."""

from collections import namedtuple
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import robench
from robench.models.outputs import LogitsOf, path_of_logits
from robench.utils.errors import UserError
from tests.helpers import Trained

Z, FEATURES = torch.rand(3, 10), torch.rand(3, 64)
Outputs = namedtuple("Outputs", "logits aux")

FORMS: dict[str, Callable[[Tensor], Any]] = {
    "tuple": lambda z: (z, torch.zeros(len(z), 64)),
    "features first": lambda z: [torch.zeros(len(z), 64), z],
    "nested": lambda z: ((z,), {"map": torch.zeros(len(z), 64, 4, 4), "loss": None}),
    "dict": lambda z: {"features": torch.zeros(len(z), 64), "out": z},
    "named logits": lambda z: {"logits": z, "other": z + 1},
    "namedtuple": lambda z: Outputs(z, z + 1),
    "object": lambda z: SimpleNamespace(logits=z, hidden=z + 1),
    "of one pixel": lambda z: z[:, :, None, None],
}


class Giving(nn.Module):
    def __init__(self, form: Callable[[Tensor], Any], model: nn.Module | None = None) -> None:
        super().__init__()
        self.form, self.model = form, model or nn.Identity()

    def forward(self, x: Tensor) -> Any:
        return self.form(self.model(x))


@pytest.mark.parametrize("form", FORMS)
def test_logits_are_found(form: str) -> None:
    path = path_of_logits(FORMS[form](Z), len(Z), 10, "it")
    assert torch.equal(LogitsOf(Giving(FORMS[form]), path)(Z), Z)


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ((Z, Z + 1), r"got 0 \(3, 10\), 1 \(3, 10\); let it return the logits alone"),
        ({"a": torch.rand(3, 7), "b": torch.rand(3, 8)}, r"got a \(3, 7\), b \(3, 8\)"),
        (torch.rand(3, 10, 4, 4), r"got \(3, 10, 4, 4\)"),
        (None, "got NoneType"),
        (torch.rand(3, 1), "gives one number for an image"),
        (torch.rand(3), "gives one number for an image"),
        ((torch.rand(3, 1), torch.rand(3, 2, 4, 4)), "gives one number for an image"),
        (torch.rand(10), r"got \(10,\)"),  # of a model that squeezes
        (torch.ones(3, 10, dtype=torch.int64), r"got \(3, 10\)"),
    ],
)
def test_what_may_not_be_logits_is_refused(output: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        path_of_logits(output, 3, 10, "it")


def test_a_module_that_gives_more_is_attacked_as_one_that_gives_logits(digits_model: Trained, in_tmp: Any) -> None:
    def robust(model: nn.Module) -> Any:
        return robench.evaluate(model, attacks=["pgd-10"], eps=0.1, n=40).attacks["pgd-10"].accuracy

    assert robust(Giving(FORMS["features first"], digits_model.model)) == robust(digits_model.model)


def test_a_module_that_gives_one_number_is_told_what_to_give(in_tmp: Any) -> None:
    one = nn.Sequential(nn.Flatten(), nn.Linear(64, 1), nn.Sigmoid())
    with pytest.raises(UserError, match=r"Sequential gives one number .* torch.logit\(p\) of a probability"):
        robench.evaluate(one, attacks=["fgsm"], n=4)
