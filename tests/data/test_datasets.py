"""The loaders, on small files in the official formats."""

import dataclasses
import gzip
import hashlib
import io
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import scipy.io
import torch
from PIL import Image
from sklearn.datasets import load_digits

from robench.data import catalog, datasets, readers
from robench.data.parts import Part
from robench.training.recipe import default_threat, resolve
from robench.utils.errors import UserError

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 32, 32, 3), dtype=np.uint8)
LABELS = [3, 1, 4, 1, 5, 9]


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()


def test_digits_are_scikit_learns() -> None:
    theirs = load_digits()
    parts: tuple[Part, Part] = ("train", "test")
    images, labels = (np.concatenate(each) for each in zip(*map(digits_of, parts), strict=True))
    assert np.array_equal(images[:, 0], (theirs.images / 16).astype(np.float32))
    assert np.array_equal(labels, theirs.target)


def digits_of(part: Part) -> tuple[np.ndarray, np.ndarray]:
    return readers.digits("digits", part, Path(), download=False)


def test_digits_are_real_and_divided() -> None:
    train, test = datasets.load("digits", "train"), datasets.load("digits", "test")
    assert (len(train), len(test)) == (1297, 500)
    assert train.shape == (1, 8, 8)
    assert (float(train.images[:].min()), float(train.images[:].max())) == (0.0, 1.0)
    assert set(test.labels.tolist()) == set(range(10))
    assert train.fingerprint != test.fingerprint


def test_mnist(tmp_path: Path) -> None:
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    images = PIXELS[..., 0][:, :28, :28]
    for part in ("train", "t10k"):
        (raw / f"{part}-images-idx3-ubyte").write_bytes(struct.pack(">IIII", 2051, 6, 28, 28) + images.tobytes())
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(struct.pack(">II", 2049, 6) + bytes(LABELS))
    split = datasets.load("mnist", "test", root=tmp_path)
    assert np.array_equal(split.images[:][:, 0].numpy(), images)
    assert split.labels.tolist() == LABELS
    assert torch.equal(split.floats([2]), torch.from_numpy(images[2:3, None]) / 255)


@pytest.mark.parametrize(("name", "key"), [("cifar10", "labels"), ("cifar100", "fine_labels")])
def test_cifar(name: str, key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torchvision.datasets

    kind = getattr(torchvision.datasets, name.upper())
    folder = tmp_path / kind.base_folder
    folder.mkdir()
    flat = PIXELS.transpose(0, 3, 1, 2).reshape(6, -1)
    for entry in ("train_list", "test_list"):
        files = []
        for file, _ in getattr(kind, entry):
            (folder / file).write_bytes(pickle.dumps({"data": flat, key: LABELS}))
            files.append([file, md5(folder / file)])
        monkeypatch.setattr(kind, entry, files)
    meta = {"filename": "meta", "key": "names"}
    (folder / "meta").write_bytes(pickle.dumps({"names": [str(i) for i in range(10)]}))
    monkeypatch.setattr(kind, "meta", {**meta, "md5": md5(folder / "meta")})
    split = datasets.load(name, "test", root=tmp_path)
    assert np.array_equal(split.images[:].numpy(), PIXELS.transpose(0, 3, 1, 2))
    assert split.labels.tolist() == LABELS


def test_svhn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torchvision.datasets

    (tmp_path / "svhn").mkdir()
    path = tmp_path / "svhn" / "test_32x32.mat"
    labels = np.array([10, 1, 4, 1, 5, 9])[:, None]  # the files call the digit 0 a 10
    scipy.io.savemat(path, {"X": PIXELS.transpose(1, 2, 3, 0), "y": labels})
    monkeypatch.setattr(torchvision.datasets.SVHN, "split_list", {"test": ["", path.name, md5(path)]})
    split = datasets.load("svhn", "test", root=tmp_path)
    assert np.array_equal(split.images[:].numpy(), PIXELS.transpose(0, 3, 1, 2))
    assert split.labels.tolist() == [0, 1, 4, 1, 5, 9]


@pytest.mark.parametrize(
    ("name", "folder", "prefix", "first"),
    [
        ("fashionmnist", "FashionMNIST", "t10k", 0),
        ("kmnist", "KMNIST", "t10k", 0),
        ("emnist-letters", "EMNIST", "emnist-letters-test", 1),
        ("emnist-balanced", "EMNIST", "emnist-balanced-test", 0),
    ],
)
def test_sets_in_the_format_of_mnist(name: str, folder: str, prefix: str, first: int, tmp_path: Path) -> None:
    raw = tmp_path / folder / "raw"
    raw.mkdir(parents=True)
    images = PIXELS[..., 0][:, :28, :28]
    for part in (prefix, prefix.replace("t10k", "train").replace("test", "train")):
        (raw / f"{part}-images-idx3-ubyte").write_bytes(struct.pack(">IIII", 2051, 6, 28, 28) + images.tobytes())
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(struct.pack(">II", 2049, 6) + bytes(LABELS))
    split = datasets.load(name, "test", root=tmp_path)
    assert np.array_equal(split.images[:][:, 0].numpy(), images)
    assert split.labels.tolist() == LABELS
    assert catalog.relative(name, (1, 28, 28)) == "mnist"


def test_stl10(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torchvision.datasets

    kind = torchvision.datasets.STL10
    (tmp_path / kind.base_folder).mkdir()
    images = np.random.default_rng(0).integers(0, 256, (6, 3, 96, 96), dtype=np.uint8)
    content = {"X.bin": images.transpose(0, 1, 3, 2).tobytes(), "y.bin": bytes(label + 1 for label in LABELS)}
    for entry, part in (("train_list", "train"), ("test_list", "test")):
        files = []
        for ending, each in content.items():
            path = tmp_path / kind.base_folder / f"{part}_{ending}"
            path.write_bytes(each)
            files.append([path.name, md5(path)])
        monkeypatch.setattr(kind, entry, files)
    (tmp_path / kind.base_folder / "class_names.txt").write_text("airplane")
    split = datasets.load("stl10", "test", root=tmp_path)
    assert np.array_equal(split.images[:].numpy(), images)
    assert split.labels.tolist() == LABELS


def test_imagenet_is_a_folder_through_the_usual_transforms(tmp_path: Path) -> None:
    write_folder(tmp_path / "imagenet", {f"val/n0{i}/a.JPEG": PIXELS[i] for i in range(2)})
    split = datasets.load("imagenet", "test", root=tmp_path, stream=True)
    assert (split.name, split.word, split.shape) == ("imagenet (test)", "imagenet", (3, 224, 224))
    small = datasets.load("imagenet", "test", root=tmp_path, resize=20, crop=16)
    assert (small.name, small.shape) == ("imagenet?resize=20&crop=16 (test)", (3, 16, 16))
    assert split.names == ["n00", "n01"]
    with pytest.raises(UserError, match="there is no usual radius for imagenet; give one with --eps"):
        default_threat("imagenet", split.shape).with_(None, None, split.shape)
    assert resolve("pgd_at", "imagenet", split.shape, {}).settings_of == "cifar10"


@pytest.mark.parametrize("name", ["mnist", "cifar10", "cifar100", "svhn", "kmnist", "emnist-digits", "stl10"])
def test_a_missing_set_says_where_to_put_it(name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--data-root.*--download"):
        datasets.load(name, "test", root=tmp_path)


@pytest.mark.parametrize(("shape", "classes"), [((1, 8, 9), 10), ((1, 8, 8), 9)])
def test_a_set_that_is_not_what_its_entry_says(shape: tuple[int, int, int], classes: int, tmp_path: Path) -> None:
    entry = catalog.Dataset("ours", "", readers.digits, shape, classes, test_images=500)
    with pytest.raises(UserError, match=r"dataset ours: .* got \(1, 8, 8\) in 10"):
        entry.read("test", tmp_path, False)


@pytest.mark.parametrize(
    ("name", "shape", "whose"),
    [
        ("svhn", (3, 32, 32), "cifar10"),
        ("mnist", (1, 28, 28), "mnist"),
        ("npz:x", (1, 28, 28), "mnist"),
        ("mnist@3x32x32", (3, 32, 32), "cifar10"),
        ("npz:x", (3, 9, 9), None),
    ],
)
def test_whose_settings_a_set_takes(name: str, shape: tuple[int, ...], whose: str | None) -> None:
    assert catalog.relative(name, shape) == whose
    assert {each.like for each in catalog.DATASETS.values()} <= {None, *catalog.DATASETS}


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def write_parquet(folder: Path, columns: dict[str, Any], part: str = "test") -> None:
    pq.write_table(pa.table(columns), folder / f"{part}-00000-of-00001.parquet")


@pytest.mark.parametrize("wrapped", [True, False])
def test_parquet_of_encoded_images(wrapped: bool, tmp_path: Path) -> None:
    encoded = [png(pixels) for pixels in PIXELS]
    images = [{"bytes": value, "path": None} for value in encoded] if wrapped else encoded
    write_parquet(tmp_path, {"id": list(range(6)), "img": images, "label": LABELS})
    split = datasets.load(f"parquet:{tmp_path}", "test")
    assert np.array_equal(split.images[:].numpy(), PIXELS.transpose(0, 3, 1, 2))
    assert isinstance(split.images, torch.Tensor)
    assert split.images.is_contiguous()  # AutoAttack takes views of batches of it
    assert split.labels.tolist() == LABELS


def test_a_relative_path_is_looked_for_here_and_then_under_the_root(
    in_tmp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place, row in (("here", 0), ("root/here", 1), ("root/there", 2)):
        Path(place).mkdir(parents=True)
        write_parquet(Path(place), {"img": [png(PIXELS[row])], "label": [row]})
    labels = {name: datasets.load(f"parquet:{name}", "test", root="root").labels.tolist() for name in ("here", "there")}
    assert labels == {"here": [0], "there": [2]}
    assert datasets.load("parquet:there", "test", root="root").name == datasets.called("parquet:root/there", "test")
    assert datasets.load(f"parquet:{in_tmp}/here", "test", root="root").labels.tolist() == [0]
    monkeypatch.setenv("HOME", str(in_tmp / "root"))
    assert datasets.load("parquet:~/there", "test").labels.tolist() == [2]
    with pytest.raises(UserError, match="parquet:nowhere: expected files test-"):
        datasets.load("parquet:nowhere", "test", root="root")


def test_parquet_of_grey_images_and_several_parts(tmp_path: Path) -> None:
    for index in range(2):
        columns = {"image": [{"bytes": png(PIXELS[index, ..., 0])}], "label": [index]}
        pq.write_table(pa.table(columns), tmp_path / f"test-0000{index}-of-00002.parquet")
    split = datasets.load(f"parquet:{tmp_path}", "test")
    assert split.images.shape == (2, 1, 32, 32)
    assert split.labels.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"img": [b"\x00", b"\x01"], "label": [0, 1]}, "row 0: not an image"),
        ({"label": [0, 1]}, "expected a column of encoded images"),
        ({"img": [png(PIXELS[0])]}, "a column of integer labels.* got img"),
        ({"img": [png(PIXELS[0]), png(PIXELS[0, :16])], "label": [0, 1]}, "images of one size"),
        ({"img": pa.array([], pa.binary()), "label": pa.array([], pa.int64())}, "is empty"),
        ({"img": [png(PIXELS[0])], "label": [-1]}, "labels of at least 0"),
    ],
)
def test_broken_parquet(columns: dict[str, Any], message: str, tmp_path: Path) -> None:
    write_parquet(tmp_path, columns)
    with pytest.raises(UserError, match=message):
        datasets.load(f"parquet:{tmp_path}", "test")


def test_parquet_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "test-0.parquet").write_bytes(b"no")
    with pytest.raises(UserError, match="parquet"):
        datasets.load(f"parquet:{tmp_path}", "test")
    with pytest.raises(UserError, match=r"found test-0.parquet"):
        datasets.load(f"parquet:{tmp_path}", "train")


def write_folder(folder: Path, images: dict[str, np.ndarray]) -> None:
    for name, pixels in images.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(png(pixels))


def test_image_folder(tmp_path: Path) -> None:
    files = {f"train/{kind}/{i}.png": PIXELS[i] for i, kind in enumerate(("dog", "cat", "emu", "cat"))}
    write_folder(tmp_path, files)
    write_folder(tmp_path / "val", {f"{kind}/a.png": PIXELS[i] for i, kind in enumerate(("dog", "cat", "emu"))})
    train, test = (datasets.load(f"imagefolder:{tmp_path}", part) for part in ("train", "test"))
    assert (train.images.dtype, train.shape, train.classes) == (torch.uint8, (3, 32, 32), 3)
    assert train.labels.tolist() == [0, 0, 1, 2]  # cat, dog, emu
    assert np.array_equal(train.images[:].numpy(), PIXELS[[1, 3, 0, 2]].transpose(0, 3, 1, 2))
    assert np.array_equal(test.images[:].numpy(), PIXELS[[1, 0, 2]].transpose(0, 3, 1, 2))
    write_folder(tmp_path / "test", {f"{kind}/a.png": PIXELS[4, ..., 0] for kind in ("dog", "cat", "emu")})
    assert datasets.load(f"imagefolder:{tmp_path}", "test").shape == (1, 32, 32)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ({}, "class folder"),
        ({"train/a/0.png": PIXELS[0]}, "expected a folder test or val in it, got train"),
        ({"test/a/0.png": PIXELS[0]}, "a folder for each class, got a alone"),
        ({"val/a/0.png": PIXELS[0], "valid/a/0.png": PIXELS[0]}, "val and valid may both be its test images"),
        ({"test/a.png": PIXELS[0]}, "class folder"),
        ({"test/a/0.png": PIXELS[0], "test/b/1.png": PIXELS[1, :16]}, "one size.*0.png.*1.png"),
        ({"test/a/0.png": PIXELS[0], "train/b/0.png": PIXELS[0]}, "classes of train"),
    ],
)
def test_broken_image_folders(images: dict[str, np.ndarray], message: str, tmp_path: Path) -> None:
    write_folder(tmp_path, images)
    with pytest.raises(UserError, match=message) as caught:
        datasets.load(f"imagefolder:{tmp_path}", "test")
    assert "\n" not in str(caught.value)


def test_an_image_folder_of_other_files(tmp_path: Path) -> None:
    (tmp_path / "test" / "a").mkdir(parents=True)
    with pytest.raises(UserError, match="valid file for the classes a"):
        datasets.load(f"imagefolder:{tmp_path}", "test")
    write_folder(tmp_path / "test", {"b/0.png": PIXELS[0]})
    (tmp_path / "test" / "a" / "0.png").write_bytes(b"no")
    with pytest.raises(UserError, match=r"a/0.png: not an image"):
        datasets.load(f"imagefolder:{tmp_path}", "test")


IMAGES = PIXELS.transpose(0, 3, 1, 2)


@pytest.mark.parametrize("images", [IMAGES, IMAGES / 255, (IMAGES / 255).astype(np.float32)])
def test_npz(images: np.ndarray, tmp_path: Path) -> None:
    np.savez(tmp_path / "set.npz", x_test=images, y_test=np.array(LABELS))
    split = datasets.load(f"npz:{tmp_path / 'set.npz'}", "test")
    assert np.allclose(split.floats(slice(None)).numpy(), IMAGES / 255, atol=1e-6)
    assert split.classes == 10


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x_test": IMAGES / 100, "y_test": np.array(LABELS)}, r"images in \[0, 1\]"),
        ({"x_test": IMAGES / 255 - 0.1, "y_test": np.array(LABELS)}, r"images in \[0, 1\]"),
        ({"x_test": IMAGES * np.nan, "y_test": np.array(LABELS)}, r"images in \[0, 1\]"),
        ({"x_test": IMAGES.astype(np.complex64), "y_test": np.array(LABELS)}, "uint8 or floats"),
        ({"x_test": IMAGES, "y_test": np.array(LABELS) - 2}, "labels of at least 0"),
        ({"x_test": IMAGES, "y_test": np.array(LABELS) / 2}, "integer labels"),
        ({"x_test": IMAGES, "y_test": np.array(LABELS[:3])}, "one label each"),
        ({"x_test": IMAGES[:, 0, 0], "y_test": np.array(LABELS)}, "channels, height, width"),
        ({"x_test": IMAGES[:0], "y_test": np.array([], dtype=int)}, "is empty"),
        ({"x_train": IMAGES, "y_train": np.array(LABELS)}, "x_test and y_test"),
        ({"x_test": np.array([object()]), "y_test": np.array(LABELS)}, "plain arrays"),
    ],
)
def test_broken_npz(arrays: dict[str, np.ndarray], message: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "set.npz", **arrays)  # type: ignore[arg-type]
    with pytest.raises(UserError, match=message):
        datasets.load(f"npz:{tmp_path / 'set.npz'}", "test")


def test_npz_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "set.npz").write_bytes(gzip.compress(b"no"))
    for path in (tmp_path / "set.npz", tmp_path / "none.npz"):
        with pytest.raises(UserError, match="npz"):
            datasets.load(f"npz:{path}", "test")


def test_an_unknown_set_names_the_nearest() -> None:
    with pytest.raises(UserError, match="did you mean 'digits'"):
        datasets.load("digit", "test")


@pytest.mark.parametrize("kind", ["uint8", "int32", "int64"])
def test_a_set_of_the_catalog_has_labels_of_any_integer_type(kind: str, tmp_path: Path) -> None:
    images, labels = np.zeros((6, 1, 4, 4), dtype=np.uint8), np.arange(6) % 3
    labels = labels.astype(kind)
    np.savez(tmp_path / "a.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)
    mine = catalog.Dataset("mine", "six", readers.npz_under("a.npz"), (1, 4, 4), classes=3, test_images=6)
    assert mine.read("test", tmp_path, False)[1].tolist() == labels.tolist()
    with pytest.raises(UserError, match=r"expected images of shape .* in 2 classes, got .* in 3"):
        dataclasses.replace(mine, classes=2).read("test", tmp_path, False)
