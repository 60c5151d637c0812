"""Few classes, one or three channels, one image at a time: every attack works, or is left out with its reason."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import robench as api
from tests.helpers import Linear

ATTACKS = [
    *("fgsm", "fgsm_rs", "pgd-10", "mim", "cw-20", "adt_exp:steps=3,samples=2", "feature-pooled:targets=2,steps=3"),
    *("spsa:evaluations=8,steps=3", "rays:queries=60", "square", "autoattack", "transfer-fgsm"),
]


def linear(classes: int, channels: int) -> Linear:
    generator = torch.Generator().manual_seed(classes)
    weight = torch.randn(classes, 16 * channels, generator=generator)
    return Linear(weight, -0.5 * weight.sum(1))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("classes", [2, 3])
def test_every_attack_on_few_classes(tmp_path: Path, classes: int, channels: int) -> None:
    model = linear(classes, channels)
    x = 0.5 + 0.05 * torch.randn(24, channels, 4, 4, generator=torch.Generator().manual_seed(1))
    y = model(x).argmax(1)
    arrays: dict[str, Any] = {
        f"{kind}_{part}": value.numpy() for part in ("train", "test") for kind, value in (("x", x), ("y", y))
    }
    np.savez(tmp_path / "toy.npz", **arrays)
    source = linear(classes, channels)
    for n, batch_size in ((1, 1), (6, 4)):
        summary = api.evaluate(
            model,
            attacks=ATTACKS,
            dataset=f"npz:{tmp_path / 'toy.npz'}",
            eps=0.4,
            n=n,
            batch_size=batch_size,
            sources=[source],
            results=tmp_path / f"{n}",
        )
        assert summary.n == n
        assert {name: (attack.errors, attack.invalid) for name, attack in summary.attacks.items()} == dict.fromkeys(
            summary.attacks, (0, 0)
        )
        assert summary.worst_case is not None
        assert summary.worst_case.value == 0  # a linear model falls to any of them at this radius
        for name in ("pgd-10", "cw-20", "autoattack", "rays:queries=60"):
            assert summary.attacks[name].kills == n
