"""What the files of benchmarks may say."""

from pathlib import Path

import pytest

from robench.specs import benchmark
from robench.utils.errors import UserError


def test_every_benchmark_parses() -> None:
    for name in benchmark.names():
        assert benchmark.load(name).eps


def test_like_takes_over_what_is_not_said() -> None:
    strong, mnist = benchmark.load("mnist_strong"), benchmark.load("mnist")
    assert strong.defenses == mnist.defenses
    assert strong.train == mnist.train
    assert (strong.n, mnist.n) == (100, 1000)
    assert set(mnist.attacks) < set(strong.attacks)


def test_like_nobody_is_refused(in_tmp: Path) -> None:
    Path("mine.yaml").write_text("like: quickstrat")
    with pytest.raises(UserError, match="did you mean 'quickstart'"):
        benchmark.load("mine.yaml")
