"""Crops and flips."""

import torch
from torch import nn

from robench.training.augment import augment


def test_crops_and_flips() -> None:
    x = torch.arange(2 * 3 * 8 * 8, dtype=torch.float32).view(2, 3, 8, 8).repeat(100, 1, 1, 1)
    generator = torch.Generator().manual_seed(0)
    assert torch.equal(augment(x, [], generator), x)
    flipped = augment(x, ["flip"], generator)
    mirrored = (flipped == x.flip(3)).flatten(1).all(1)
    assert torch.equal(flipped[~mirrored], x[~mirrored])
    assert 60 < int(mirrored.sum()) < 140
    cropped = augment(x, ["crop"], generator)
    padded = nn.functional.pad(x, [4] * 4)
    offsets = set()
    for image, source in zip(cropped, padded, strict=True):
        places = [(i, j) for i in range(9) for j in range(9) if torch.equal(image, source[:, i : i + 8, j : j + 8])]
        assert places
        offsets.add(places[0])
    assert len(offsets) > 50
