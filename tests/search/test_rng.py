from collections.abc import Sequence

import numpy as np
import pytest
import torch

from robench.search.rng import Draws


def draws(ids: Sequence[int] | np.ndarray, seed: int = 0, restart: int = 0) -> Draws:
    return Draws(seed, np.array(ids), torch.device("cpu"), restart)


@pytest.mark.parametrize("kind", ["uniform", "normal"])
@pytest.mark.parametrize("size", [1, 3, 17])
def test_an_example_draws_the_same_bits_in_any_batch_and_order(kind: str, size: int) -> None:
    ids = np.random.default_rng(0).permutation(40)
    whole = {int(i): row for i, row in zip(ids, getattr(draws(ids), kind)("start", (2, 3)), strict=True)}
    for begin in range(0, 40, size):
        batch = ids[begin : begin + size]
        for example, row in zip(batch, getattr(draws(batch), kind)("start", (2, 3)), strict=True):
            assert torch.equal(row, whole[int(example)])


def test_keeping_some_examples_keeps_their_streams() -> None:
    kept = draws([4, 5, 6]).take(torch.tensor([2, 0])).uniform("start", (8,))
    assert torch.equal(kept, draws([6, 4]).uniform("start", (8,)))


def test_seed_example_restart_purpose_and_step_each_make_another_stream() -> None:
    base = draws([1]).uniform("start", (64,))
    others = [
        draws([2]).uniform("start", (64,)),
        draws([1], seed=1).uniform("start", (64,)),
        draws([1], restart=1).uniform("start", (64,)),
        draws([1]).uniform("radius", (64,)),
        draws([1]).uniform("start", (64,), step=1),
    ]
    streams = torch.cat([base, *others])
    assert len({tuple(row.tolist()) for row in streams}) == 6
    assert torch.corrcoef(streams).fill_diagonal_(0).abs().max() < 0.5


def test_moments() -> None:
    uniform, normal = draws(range(200)).uniform("a", (100,)), draws(range(200)).normal("a", (100,))
    assert uniform.min() >= 0
    assert uniform.max() < 1
    assert float(uniform.mean()) == pytest.approx(0.5, abs=0.01)
    assert float(normal.mean()) == pytest.approx(0, abs=0.03)
    assert float(normal.std()) == pytest.approx(1, abs=0.03)
