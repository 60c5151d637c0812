"""Whose numbers they are: rows are reused for the same model, and for no other."""

import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import robench
from robench.evaluation.answers import agree
from robench.evaluation.target import NotReused, load_model
from robench.ledger.store import Ledger
from robench.ledger.summary import Summary
from robench.reports import ranking
from robench.utils.errors import UserError
from tests.helpers import Trained

QUICK: dict[str, Any] = {"attacks": ["fgsm"], "n": 30, "eps": 0.1}


class T:
    def __init__(self, k: float) -> None:
        self.k = k

    def __call__(self, x: Tensor) -> Tensor:
        return x + self.k


class D(nn.Module):
    def __init__(self, net: nn.Module, f: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.net, self.f = net, f

    def forward(self, x: Tensor) -> Tensor:
        return self.net(self.f(x))  # type: ignore[no-any-return]


def cells(results: Path) -> int:
    return len(list((results / "ledger").glob("*/cell.json")))


def numbers(summary: Summary) -> tuple[float, float]:
    assert summary.worst_case
    return summary.clean.value, summary.worst_case.value


def test_models_that_differ_in_what_they_call_have_numbers_of_their_own(digits_model: Trained, tmp_path: Path) -> None:
    net = digits_model.model
    variants: list[Callable[[Tensor], Tensor]] = [T(0), T(0.4), lambda x: 1 - x]
    apart = [numbers(robench.evaluate(D(net, f), results=tmp_path / str(i), **QUICK)) for i, f in enumerate(variants)]
    together = [numbers(robench.evaluate(D(net, f), results=tmp_path / "all", **QUICK)) for f in variants]
    assert together == apart
    assert len({*apart}) == 3
    before = cells(tmp_path / "all")
    assert numbers(robench.evaluate(D(net, T(0)), results=tmp_path / "all", **QUICK)) == apart[0]
    assert cells(tmp_path / "all") == before
    rows = ranking.leaderboard(tmp_path / "all")
    assert len({*rows["settings"]}) == len(rows) == 3
    assert all(told.startswith("code=") for told in rows["settings"])


FACTORY = """
import torch
from torch import nn
import shifts
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.inner = nn.Linear(64, 10)
    def forward(self, x):
        return self.inner(shifts.shift(x.flatten(1)))
def net():
    return Net()
"""


def test_a_factory_is_its_model_wherever_it_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def evaluated(name: str, helper: str, more: str = "") -> int:
        folder = tmp_path / name
        folder.mkdir()
        (folder / "shifts.py").write_text(helper)
        (folder / f"{name}.py").write_text(FACTORY + more)
        monkeypatch.syspath_prepend(folder)
        monkeypatch.delitem(sys.modules, "shifts", raising=False)
        robench.evaluate(f"{folder / name}.py:net", results=tmp_path / "results", **QUICK)
        return len(ranking.leaderboard(tmp_path / "results"))

    assert evaluated("one", "def shift(x): return x") == 1
    assert evaluated("two", "# nothing\ndef shift(x):\n    return x\n", "\nUNRELATED = 1\n") == 1
    assert evaluated("three", "def shift(x): return 1 - x") == 2


class Connected:
    def __init__(self, connection: Any) -> None:
        self.connection = connection

    def __deepcopy__(self, memo: Any) -> "Connected":
        return self

    def __call__(self, x: Tensor) -> Tensor:
        return x


def test_rows_of_what_cannot_be_described_are_not_reused_and_that_is_said(
    digits_model: Trained, tmp_path: Path
) -> None:
    with socket.socket() as connection:
        model = D(digits_model.model, Connected(connection))
        for count in (1, 2):
            with pytest.warns(NotReused, match=r"numbers of D,.*socket\.socket keeps a state that cannot be read"):
                robench.evaluate(model, results=tmp_path, **QUICK)
            assert cells(tmp_path) == 3 * count
        assert {told.partition("=")[0] for told in ranking.leaderboard(tmp_path)["settings"]} == {"run"}
        with pytest.warns(NotReused), pytest.raises(UserError, match="run the whole"):
            robench.evaluate(model, results=tmp_path, part="1/1", **QUICK)


def test_functions_on_arrays_take_the_same_way(digits_model: Trained, tmp_path: Path) -> None:
    def over(scale: float) -> Callable[[np.ndarray], np.ndarray]:
        def scores(x: np.ndarray) -> np.ndarray:
            with torch.no_grad():
                return digits_model.model(torch.from_numpy(x) * scale).numpy()  # type: ignore[no-any-return]

        return scores

    options: dict[str, Any] = {"attacks": ["rays:queries=20"], "n": 5, "eps": 0.1, "results": tmp_path}
    for scale, expected in ((1.0, 2), (1.0, 2), (1.001, 4)):
        robench.evaluate(over(scale), **options)
        assert cells(tmp_path) == expected


class OfTheEnvironment(nn.Module):
    def __init__(self, net: nn.Module, file: Path) -> None:
        super().__init__()
        self.net, self.file = net, str(file.parent)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x * float(open(self.file + "/scale").read()))  # type: ignore[no-any-return]


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_model_that_answers_otherwise_is_another_one(digits_model: Trained, tmp_path: Path) -> None:
    scale = tmp_path / "scale"
    model = OfTheEnvironment(digits_model.model, scale)
    scale.write_text("1")
    first = numbers(robench.evaluate(model, results=tmp_path, **QUICK))
    scale.write_text("0.2")
    with pytest.warns(NotReused, match="answers otherwise"):
        assert numbers(robench.evaluate(model, results=tmp_path, **QUICK)) != first
    scale.write_text("1")
    before = cells(tmp_path)
    assert numbers(robench.evaluate(model, results=tmp_path, **QUICK)) == first
    assert cells(tmp_path) == before


def test_answers_agree_but_for_rounding() -> None:
    given = [[1.0, -2.0], [0.5, float("-inf")]]
    assert agree(given, [[1.001, -2.001], [0.499, float("-inf")]])
    assert not agree(given, [[1.1, -2.0], [0.5, float("-inf")]])
    assert not agree(given, [[1.0, -2.0], [0.5, 0.0]])
    assert agree(None, given)


def test_a_subject_that_was_changed_is_another_one(digits_model: Trained, tmp_path: Path) -> None:
    subject = load_model(D(digits_model.model, T(0)))
    robench.evaluate(subject, results=tmp_path, **QUICK)
    before = cells(tmp_path)
    subject.model.register_forward_pre_hook(lambda module, given: (1 - given[0],))
    robench.evaluate(subject, results=tmp_path, **QUICK)
    assert cells(tmp_path) == 2 * before


def test_sources_are_described_as_models_are(digits_model: Trained, tmp_path: Path) -> None:
    net = digits_model.model
    for f, expected in ((T(0), 1), (T(0), 1), (T(0.4), 2)):
        robench.evaluate(net, sources=[D(net, f)], attacks=["transfer"], n=10, eps=0.1, results=tmp_path)
        attacked = [cell for cell in Ledger(tmp_path).cells() if "transfer" in cell.about["attack"]]
        assert len(attacked) == expected
