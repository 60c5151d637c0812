"""Arrays by the keys that people give them, in files and folders."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import torch

from robench.data import datasets
from robench.utils.errors import UserError

X = np.random.default_rng(0).integers(0, 256, (6, 5, 5, 3), dtype=np.uint8)
Y = np.array([3, 1, 4, 1, 5, 2])
OTHER = 255 - X
FIRST = torch.from_numpy(X).permute(0, 3, 1, 2)


def loaded(arrays: dict[str, np.ndarray], folder: Path, options: str = "", part: Any = "test") -> datasets.Split:
    np.savez(folder / "a.npz", **arrays)  # type: ignore[arg-type]
    return datasets.load(f"npz:{folder}/a.npz{options}", part)


@pytest.mark.parametrize(
    "keys",
    [
        *("x_test y_test", "X_test Y_test", "test_x test_y", "testX testY", "x y", "X y", "images labels"),
        *(
            "test_images test_labels",
            "images_test labels_test",
            "test_data test_labels",
            "data targets",
            "data fine_labels",
        ),
        *("val_images val_labels", "x_valid y_valid", "arr_0 arr_1", "first second", "testing.images testing.targets"),
    ],
)
def test_keys_that_tell(keys: str, tmp_path: Path) -> None:
    image, label = keys.split()
    split = loaded({label: Y[:, None], image: X}, tmp_path)
    assert torch.equal(split.images[:], FIRST)
    assert split.labels.tolist() == Y.tolist()


def test_each_part_has_its_own(tmp_path: Path) -> None:
    medmnist = {
        f"{part}_{kind}": {"images": x, "labels": Y[:, None]}[kind]
        for part, x in (("train", X), ("val", X), ("test", OTHER))
        for kind in ("images", "labels")
    }
    assert torch.equal(loaded(medmnist, tmp_path).images[:], 255 - FIRST)
    assert torch.equal(loaded(medmnist, tmp_path, part="train").images[:], FIRST)
    undivided = {"x": X, "y": Y}
    both = [loaded(undivided, tmp_path, part=part).fingerprint for part in ("train", "test")]
    assert both[0] == both[1]


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (
            {"x_train": X, "y_train": Y, "x": OTHER, "y": Y},
            r"expected arrays x_test and y_test, .*x_train uint8 \(6, 5, 5, 3\)",
        ),
        ({"x_val": X, "x_valid": X, "y_val": Y}, "val and valid may both"),
        ({"images": X, "data": X, "labels": Y}, r"images and data may all be the images; .*\?image=images"),
        ({"x_test": X, "x_val": X, "y_val": Y}, "expected arrays x_test and y_test"),
        ({"x_test": X, "y": Y}, "expected arrays x_test and y_test"),
        ({"x": X, "labels": Y, "y": Y}, r"labels and y may all be the labels"),
        ({"a": X, "b": Y, "c": Y}, r"it holds a uint8 \(6, 5, 5, 3\), b int64 \(6,\), c int64 \(6,\)"),
        ({"a": X, "b": X}, "it holds a uint8"),
        ({"a": X}, "it holds a uint8"),
        ({}, "it holds none"),
        ({"x": X, "y": np.array([object()] * 6)}, "expected plain arrays, y is none"),
        ({"x": X, "y": Y[:3]}, "one label each"),
    ],
)
def test_keys_that_do_not_tell(arrays: dict[str, np.ndarray], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message) as caught:
        loaded(arrays, tmp_path)
    assert "\n" not in str(caught.value)


def test_keys_are_named_after_a_question_mark(tmp_path: Path) -> None:
    arrays = {"images": X, "masks": OTHER, "labels": Y, "coarse": Y % 2}
    split = loaded(arrays, tmp_path, "?image=masks&label=coarse")
    assert torch.equal(split.images[:], 255 - FIRST)
    assert split.labels.tolist() == (Y % 2).tolist()
    for options, message in (
        ("?image=mask", "no array mask; it holds images"),
        ("?imag=masks", "unknown option of npz:.*'imag'; did you mean 'image'"),
        ("?layout=CHW", "NCHW or NHWC"),
    ):
        with pytest.raises(UserError, match=message):
            loaded(arrays, tmp_path, options)
    square = {"x": X[:, :3, :3], "y": Y}
    assert torch.equal(loaded(square, tmp_path, "?layout=NHWC").images[:], FIRST[..., :3, :3])


def test_a_folder_of_arrays(tmp_path: Path) -> None:
    for name, array in {"x_train": OTHER, "y_train": Y, "x_test": X, "y_test": Y}.items():
        np.save(tmp_path / f"{name}.npy", array)
    assert torch.equal(datasets.load(f"npy:{tmp_path}", "test").images[:], FIRST)
    with pytest.raises(UserError, match=r"one .npy file has no labels; name the folder, npy:"):
        datasets.load(f"npy:{tmp_path}/x_test.npy", "test")


TENSORS = torch.from_numpy(X), torch.from_numpy(Y)
SAVED: list[Any] = [
    {"x": TENSORS[0], "y": TENSORS[1]},
    {"data": X, "targets": Y},
    TENSORS,
    (X, Y),
    [TENSORS[0], Y],
    {"test": TENSORS, "train": (TENSORS[1], TENSORS[0])},
    {"test": {"images": X, "labels": Y}},
]


@pytest.mark.parametrize("value", SAVED, ids=range(len(SAVED)))
def test_tensors_and_arrays_that_torch_saved(value: Any, tmp_path: Path) -> None:
    torch.save(value, tmp_path / "a.pt")
    split = datasets.load(f"pt:{tmp_path}/a.pt", "test")
    assert torch.equal(split.images[:], FIRST)
    assert split.labels.tolist() == Y.tolist()


class Runs:
    """Leaves a file where it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.file),)


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    torch.save({"x": X, "y": Runs(tmp_path / "ran")}, tmp_path / "a.pt")
    np.savez(tmp_path / "a.npz", x=X, y=np.array([Runs(tmp_path / "ran")], dtype=object))
    np.save(tmp_path / "x.npy", X)
    np.save(tmp_path / "y.npy", np.array([Runs(tmp_path / "ran")], dtype=object))
    torch.save(torch.utils.data.TensorDataset(*TENSORS), tmp_path / "b.pt")
    for name in ("pt:a.pt", "npz:a.npz", "npy:.", "pt:b.pt"):
        with pytest.raises(UserError, match=r"expected plain arrays|would run code; save a dictionary") as caught:
            datasets.load(name.replace(":", f":{tmp_path}/"), "test")
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "ran").exists()


def test_a_state_dict_is_no_data(tmp_path: Path) -> None:
    torch.save(torch.nn.Sequential(*(torch.nn.Linear(2, 2) for _ in range(9))).state_dict(), tmp_path / "a.pt")
    with pytest.raises(UserError, match=r"it holds 0.weight float32 \(2, 2\), .* and 6 more"):
        datasets.load(f"pt:{tmp_path}/a.pt", "test")


def test_safetensors(tmp_path: Path) -> None:
    safetensors.numpy.save_file({"images": X, "labels": Y}, tmp_path / "a.safetensors")
    assert torch.equal(datasets.load(f"safetensors:{tmp_path}/a.safetensors", "test").images[:], FIRST)


def test_cifar10c(tmp_path: Path) -> None:
    many = np.concatenate([np.roll(X, shift, 1) for shift in range(5)])
    np.save(tmp_path / "fog.npy", many)
    np.save(tmp_path / "labels.npy", np.tile(Y, 5))
    split = datasets.load(f"cifar10c:{tmp_path}:fog:3", "test")
    assert torch.equal(split.images[:], FIRST.roll(2, 2))
    assert split.labels.tolist() == Y.tolist()
    assert split.name == f"cifar10c:{tmp_path.name}:fog:3 (test)"
    for rest, part, message in (
        ("frog:3", "test", "unknown corruption .* did you mean 'fog'"),
        ("fog", "test", "a severity from 1 to 5, DIR:fog:3, got ''"),
        ("fog:6", "test", "a severity from 1 to 5"),
        ("fog:3", "train", "test images alone"),
    ):
        with pytest.raises(UserError, match=message):
            datasets.load(f"cifar10c:{tmp_path}:{rest}", part)  # type: ignore[arg-type]
    np.save(tmp_path / "fog.npy", many[:-1])
    with pytest.raises(UserError, match="29 and 30"):
        datasets.load(f"cifar10c:{tmp_path}:fog:3", "test")
    with pytest.raises(UserError, match=r"no labels.npy"):
        datasets.load(f"cifar10c:{tmp_path}/none:fog:3", "test")
