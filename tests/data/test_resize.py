"""Images in other shapes, and how a data set is asked for in one."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from robench.data import datasets, resize
from robench.utils.errors import UserError


@pytest.mark.parametrize("side", [8, 12, 40])
def test_resizing_is_that_of_pillow(side: int) -> None:
    x = torch.randint(256, (3, 1, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    found = resize.resized(x, (1, side, side), "x")
    for image, resized in zip(x, found, strict=True):
        expected = np.asarray(Image.fromarray(image[0].numpy()).resize((side, side), Image.Resampling.BILINEAR))
        assert np.abs(resized[0].numpy().astype(int) - expected).max() <= 1


def test_nothing_is_invented() -> None:
    flat = torch.full((2, 1, 8, 8), 100, dtype=torch.uint8)
    assert (resize.resized(flat, (3, 28, 32), "x") == 100).all()
    ramp = torch.linspace(0, 1, 8).expand(1, 1, 8, 8)
    wide = resize.resized(ramp, (1, 8, 64), "x")[0, 0, 0].float()
    assert (wide.diff() >= 0).all()
    assert (wide[4:-4] / 255 - torch.linspace(0, 1, 56)).abs().max() < 0.01


def test_grey_and_colours() -> None:
    grey = torch.randint(256, (2, 1, 4, 4), dtype=torch.uint8)
    assert torch.equal(resize.resized(grey, (3, 4, 4), "x"), grey.expand(-1, 3, -1, -1))
    assert torch.equal(resize.resized(resize.resized(grey, (3, 4, 4), "x"), (1, 4, 4), "x"), grey)
    green = torch.zeros(1, 3, 2, 2)
    green[:, 1] = 1
    assert (resize.resized(green, (1, 2, 2), "x") == 150).all()  # 0.587 of 255


def test_a_data_set_in_a_shape() -> None:
    own, shaped = datasets.load("digits", "test"), datasets.load("digits@1x28x28", "test")
    assert tuple(shaped.shape) == (1, 28, 28)
    assert shaped.images.dtype == torch.uint8
    assert shaped.name == "digits@1x28x28 (test)"
    assert torch.equal(shaped.labels, own.labels)
    assert own.shaped((1, 8, 8)) is own
    assert shaped.shaped((1, 8, 8)).name == "digits@1x8x8 (test)"


def test_a_users_file_in_a_shape(tmp_path: Path) -> None:
    np.savez(tmp_path / "a@b.npz", x_test=np.zeros((3, 1, 5, 5), np.uint8), y_test=np.arange(3))
    assert datasets.load(f"npz:{tmp_path}/a@b.npz@3x10x10", "test").images.shape == (3, 3, 10, 10)
    assert datasets.load(f"npz:{tmp_path}/a@b.npz", "test").images.shape == (3, 1, 5, 5)


def test_the_common_shape_is_the_larger() -> None:
    assert resize.common((3, 8, 30), (1, 28, 28)) == (3, 28, 30)


@pytest.mark.parametrize(("name", "message"), [("digits@2x8x8", "1x28x28 or 3x32x32"), ("digits@1x0x8", "1x28x28")])
def test_shapes_that_cannot_be(name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        datasets.load(name, "test")


def test_other_channels_are_refused() -> None:
    with pytest.raises(UserError, match="1 or 3 channels to resize, got 2"):
        resize.resized(torch.zeros(1, 2, 4, 4), (1, 8, 8), "dataset x")
