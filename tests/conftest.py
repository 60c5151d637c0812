"""A small trained network, and a runner of the command line."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from pyautoattack import AutoAttack
from torch import nn

from robench.data import datasets
from robench.models import build
from robench.utils import registry
from tests.helpers import Ran, Trained

torch.set_num_threads(1)  # the tests run in as many processes as there are cores


@pytest.fixture(scope="session")
def digits_model() -> Trained:
    """A digit_cnn after a few epochs of plain training on the digits, with their test images."""
    split = datasets.load("digits", "train")
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    model = build("digit_cnn", split.shape, 10)
    adam = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(6):
        for rows in torch.randperm(len(split), generator=generator).split(64):  # type: ignore[no-untyped-call]
            adam.zero_grad()
            nn.functional.cross_entropy(model(split.floats(rows)), split.labels[rows]).backward()  # type: ignore[no-untyped-call]
            adam.step()
    return Trained(model.eval(), datasets.load("digits", "test"))


@pytest.fixture
def short_autoattack(monkeypatch: pytest.MonkeyPatch) -> type[AutoAttack]:
    """The library with few steps and queries: `autoattack` and `square` run it too, until the test ends."""

    class Short(AutoAttack):  # type: ignore[misc]
        def __init__(self, *arguments: object, **options: object) -> None:
            super().__init__(*arguments, **options)
            for each in (self.apgd, self.apgd_targeted, self.fab):
                each.n_iter = 12
            self.square.n_queries = 200

    for file in ("autoattack", "square"):
        monkeypatch.setattr(registry.module("attacks", file), "AutoAttack", Short)
    return Short


@pytest.fixture
def robench(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    """Runs the command line in this process: robench("eval", "--model", path)."""
    from robench.cli.main import main

    def run(*arguments: object) -> Ran:
        monkeypatch.setattr(sys, "argv", ["robench", *map(str, arguments)])
        code = 0
        try:
            main()
        except SystemExit as exit:
            code = int(exit.code or 0)
        captured = capsys.readouterr()
        return Ran(code, captured.out, captured.err)

    return run


@pytest.fixture
def in_tmp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path
