"""Arrays in the forms that people have them."""

from typing import Any

import numpy as np
import pytest

from robench.data import arrays
from robench.utils.errors import Notice, UserError

GENERATOR = np.random.default_rng(0)
COLOUR = GENERATOR.integers(0, 256, (4, 6, 7, 3), dtype=np.uint8)
"""[N, H, W, C]"""

FIRST = COLOUR.transpose(0, 3, 1, 2)


@pytest.mark.parametrize("images", [COLOUR, FIRST, COLOUR.astype(np.int64), FIRST.astype(float), FIRST.astype(">u2")])
def test_images_of_eight_bits_in_any_type_and_order(images: np.ndarray) -> None:
    found = arrays.images(images, "x")
    assert found.dtype == np.uint8
    assert np.array_equal(found, FIRST)
    assert found.flags.c_contiguous
    assert found.flags.writeable


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64, ">f4"])
def test_floats_stay_what_they_are(kind: Any) -> None:
    found = arrays.images((COLOUR / 255).astype(kind), "x")
    assert found.dtype == np.float32
    assert np.array_equal(found, (FIRST / 255).astype(kind).astype(np.float32))


def test_sixteen_bits_and_booleans() -> None:
    deep = COLOUR.astype(np.uint16) * 257
    for array in (deep, deep.astype(np.int32), deep.astype(float)):
        assert np.allclose(arrays.images(array, "x"), FIRST / 255, atol=1e-7)
    assert np.array_equal(arrays.images(COLOUR > 127, "x"), (FIRST > 127).astype(np.float32))


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((5, 28, 28), (1, 28, 28)),
        ((5, 28, 28, 1), (1, 28, 28)),
        ((5, 1, 28, 28), (1, 28, 28)),
        ((5, 3, 8, 9), (3, 8, 9)),
        ((5, 8, 9, 3), (3, 8, 9)),
        ((5, 64, 64, 13), (13, 64, 64)),  # of satellites: told by the square
        ((5, 13, 64, 64), (13, 64, 64)),
        ((5, 1, 3, 3), (1, 3, 3)),
        ((5, 3, 3, 1), (1, 3, 3)),
    ],
)
def test_where_the_channels_are(shape: tuple[int, ...], expected: tuple[int, ...]) -> None:
    values = GENERATOR.random(shape)
    found = arrays.images(values, "x")
    assert found.shape[1:] == expected
    whole = values.reshape(5, -1) if shape[1:] == expected or len(shape) == 3 else values.transpose(0, 3, 1, 2)
    assert np.array_equal(found.reshape(5, -1), whole.reshape(5, -1).astype(np.float32))


@pytest.mark.parametrize("shape", [(5, 3, 3, 3), (5, 3, 8, 3), (5, 8, 8, 8), (5, 4, 8, 9), (5, 1, 1, 3)])
def test_layouts_that_cannot_be_told_are_asked_for(shape: tuple[int, ...]) -> None:
    values = GENERATOR.random(shape)
    with pytest.raises(UserError, match=r"\?layout=NCHW or \?layout=NHWC"):
        arrays.images(values, "x")
    assert arrays.images(values, "x", "NCHW").shape == shape
    assert arrays.images(values, "x", "NHWC").shape == (shape[0], shape[3], shape[1], shape[2])


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (COLOUR / 255 - 0.5, r"from -0.5 to 0.5; undo their normalisation"),
        (COLOUR / 100, "to 2.55; divide them by"),
        (COLOUR.astype(float) + 0.5, "divide them by"),
        (COLOUR // 16, None),
        ((COLOUR // 16).astype(float), "from 0 to 15; divide them by"),  # scikit-learn's digits
        ((COLOUR > 127).astype(np.uint8), "0 and 1 alone"),
        (COLOUR.astype(np.uint16) * 16, "from 0 to 4080"),  # 12 bits
        (np.full((2, 3, 4, 4), np.nan), "nan"),
        (COLOUR.reshape(4, -1), r"got \(4, 126\)"),
        (COLOUR.astype(np.complex64), "complex64"),
        (np.array(["a"]).reshape(1, 1, 1, 1).repeat(4, 3), "got text"),
    ],
)
def test_scales_that_cannot_be_told_are_refused(images: np.ndarray, message: str | None) -> None:
    if message is None:
        with pytest.warns(Notice, match="the brightest of its 8-bit images reaches 15 of 255"):
            assert arrays.images(images, "x").dtype == np.uint8
        return
    with pytest.raises(UserError, match=message) as caught:
        arrays.images(images, "x")
    assert "\n" not in str(caught.value)


LABELS = np.array([2, 0, 1, 2])


@pytest.mark.parametrize(
    "labels",
    [
        LABELS,
        LABELS.astype(np.uint8),
        LABELS.astype(float),
        LABELS.astype(np.float16),
        LABELS[:, None],
        LABELS[:, None].astype(">i4"),
        np.eye(3)[LABELS],
        np.eye(3, dtype=bool)[LABELS],
        np.eye(3, dtype=np.uint8)[LABELS],
    ],
)
def test_labels(labels: np.ndarray) -> None:
    found = arrays.labels(labels, "y")
    assert found.dtype == np.int64
    assert found.tolist() == LABELS.tolist()
    assert arrays.labels(np.array([True, False]), "y").tolist() == [1, 0]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (LABELS / 2, "integer labels"),
        (LABELS * np.nan, "integer labels"),
        (np.array(["cat", "dog"]), "got text; number the classes"),
        (np.full((4, 3), 1 / 3), "not one-hot"),
        (np.ones((4, 2), int), "not one-hot"),
        (np.zeros((4, 3)), "not one-hot"),
        (np.zeros((4, 1, 1)), r"got \(4, 1, 1\)"),
        (np.array(3), r"got \(\)"),
    ],
)
def test_broken_labels(labels: np.ndarray, message: str) -> None:
    with pytest.raises(UserError, match=message):
        arrays.labels(labels, "y")


def test_objects_are_refused() -> None:
    with pytest.raises(UserError, match="Python objects"):
        arrays.plain([{}, 1], "x")
    with pytest.raises(UserError, match="expected an array"):
        arrays.plain([[1], [1, 2]], "x")
