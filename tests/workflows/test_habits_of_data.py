"""What people have their images in: each habit made on the fly, and what becomes of it, as docs/habits_data.md tells.

`python -m tests.workflows.test_habits_of_data` writes that table anew.
"""

import io
import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import safetensors.torch
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset, TensorDataset
from torchvision.datasets import ImageFolder
from torchvision.transforms import CenterCrop, Compose, Normalize, RandomRotation, Resize, ToTensor

from robench.data import datasets
from robench.utils.errors import UserError
from tests import ROOT

TABLE = ROOT / "docs" / "habits_data.md"

LAST = np.random.default_rng(0).integers(0, 256, (6, 12, 10, 3), dtype=np.uint8)
LAST[0, 0, 0] = 0, 127, 255
FIRST = LAST.transpose(0, 3, 1, 2)
GREY = LAST[..., 0]
Y = np.array([0, 0, 1, 1, 2, 2])
X, LABELS = torch.from_numpy(FIRST.copy()), torch.from_numpy(Y)
CLASSES = ("cat", "dog", "emu")

COLOUR = X / 255
MIXED = torch.cat([COLOUR[:1, :1].expand(1, 3, -1, -1), COLOUR[1:]])
"""The first of them grey."""


@dataclass(frozen=True)
class Habit:
    """What people have, how they ask for it, and what makes it in a folder and gives what is asked for; `gives` are the
    images in [0, 1] that it must come to, None where it is refused."""

    what: str
    asked: str
    make: Callable[[Path], Any]
    gives: Tensor | None = field(default_factory=lambda: COLOUR)
    options: dict[str, Any] = field(default_factory=dict)


def npz(what: str, gives: Tensor | None = COLOUR, asked: str = "npz:FILE", **keys: Any) -> Habit:
    def make(folder: Path) -> str:
        np.savez(folder / "a.npz", **keys)
        return asked.replace("FILE", f"{folder}/a.npz")

    return Habit(what, asked, make, gives)


def saved(what: str, value: Any, gives: Tensor | None = COLOUR) -> Habit:
    def make(folder: Path) -> str:
        torch.save(value, folder / "a.pt")
        return f"pt:{folder}/a.pt"

    return Habit(what, "pt:FILE", make, gives)


def table(
    what: str,
    files: Sequence[str] = ("test-00000-of-00001",),
    gives: Tensor | None = COLOUR,
    asked: str = "parquet:DIR",
    metadata: dict[str, str] | None = None,
    **columns: Any,
) -> Habit:
    def make(folder: Path) -> Any:
        kind = asked.partition(":")[0]
        features = {name: {"_type": each} for name, each in (metadata or {}).items()}
        described = {b"huggingface": json.dumps({"info": {"features": features}}).encode()}
        content = pa.table(columns or {"image": pngs(LAST), "label": Y})
        content = content.replace_schema_metadata(described)
        for file in files:
            path = folder / f"{file}.{kind}"
            path.parent.mkdir(parents=True, exist_ok=True)
            if kind == "parquet":
                pq.write_table(content, path)
            else:
                with pa.ipc.new_stream(path, content.schema) as writer:
                    writer.write_table(content)
        return asked.replace("DIR", str(folder))

    return Habit(what, asked, make, gives)


def pngs(images: np.ndarray) -> list[bytes]:
    return [encoded(Image.fromarray(image)) for image in images]


def encoded(image: Image.Image) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


def colour(number: int) -> Image.Image:
    return Image.fromarray(LAST[number])


def folder_of(
    what: str,
    places: Sequence[str] = ("train", "test"),
    gives: Tensor | None = COLOUR,
    images: Callable[[int], Image.Image] = colour,
    classes: Sequence[str] = CLASSES,
    asked: str = "imagefolder:DIR",
    ending: str = "png",
    **options: Any,
) -> Habit:
    def make(folder: Path) -> str:
        for place in places:
            for number, label in enumerate(Y):
                path = folder / place / classes[label % len(classes)] / f"{number}.{ending}"
                path.parent.mkdir(parents=True, exist_ok=True)
                images(number).save(path)
        return asked.replace("DIR", str(folder))

    return Habit(what, asked, make, gives, options)


def given(what: str, asked: str, source: Any, gives: Tensor | None = COLOUR, **options: Any) -> Habit:
    return Habit(what, f"dataset={asked}", lambda _: source, gives, options)


def turned(number: int) -> Image.Image:
    """With a note of a camera that it lies on its side."""
    image = Image.fromarray(LAST[number])
    image.getexif()[0x0112] = 6
    return image


def of_all_sizes(number: int) -> Image.Image:
    return Image.fromarray(LAST[number]).resize((20 + number, 30 - number))


def prepared(images: Callable[[int], Image.Image]) -> Tensor:
    steps = Compose([Resize(16), CenterCrop(12), ToTensor()])
    return torch.stack([steps(images(number)) for number in range(len(Y))])


class Pictures(Dataset[Any]):
    """Images of PIL through a transform, as torchvision's sets are."""

    def __init__(self, transform: Callable[[Any], Any] = lambda image: image) -> None:
        self.transform = transform

    def __len__(self) -> int:
        return len(Y)

    def __getitem__(self, row: int) -> Any:
        return self.transform(Image.fromarray(LAST[row])), int(Y[row])


class Rows(Pictures):
    """As Hugging Face's sets are."""

    def __getitem__(self, row: int) -> Any:
        return dict(zip(("image", "label"), super().__getitem__(row), strict=True))


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Iterator[Any]:
        return zip(X, LABELS, strict=True)


def arrays_in(folder: Path) -> str:
    for name, array in {"x_train": FIRST, "y_train": Y, "x_test": FIRST, "y_test": Y}.items():
        np.save(folder / f"{name}.npy", array)
    return f"npy:{folder}"


def corruptions(rest: str) -> Callable[[Path], str]:
    def make(folder: Path) -> str:
        np.save(folder / "fog.npy", np.concatenate([LAST if severity == 2 else 255 - LAST for severity in range(5)]))
        np.save(folder / "labels.npy", np.tile(Y, 5))
        return f"cifar10c:{folder}:{rest}"

    return make


def tensors_file(folder: Path) -> str:
    safetensors.torch.save_file({"images": X, "labels": LABELS}, folder / "a.safetensors")
    return f"safetensors:{folder}/a.safetensors"


def path_of(make: Callable[[Path], str]) -> Callable[[Path], Path]:
    """The path in the word that is made."""
    return lambda folder: Path(make(folder).partition(":")[2])


def image_folder_of_torchvision(folder: Path) -> Any:
    folder_of("", ("",)).make(folder)
    return ImageFolder(str(folder), ToTensor())


PAIRS = TensorDataset(X, LABELS)
TWICE: dict[str, Any] = {"images": FIRST, "data": 255 - FIRST, "labels": Y}
SMALL = np.ascontiguousarray(FIRST[:, :, :3, :3])

HABITS: dict[str, list[Habit]] = {
    "NumPy": [
        npz("`x_test`, `y_test` [N, C, H, W]", x_train=255 - FIRST, y_train=Y, x_test=FIRST, y_test=Y),
        npz("the same with the channels last, [N, H, W, C]", x_test=LAST, y_test=Y),
        npz("`X_test`, `Y_test`, the labels one-hot", X_test=LAST, Y_test=np.eye(3)[Y]),
        npz(
            "MedMNIST's `test_images`, `test_labels` (N, 1)", test_images=LAST, test_labels=Y[:, None], val_images=LAST
        ),
        npz("`test_data`, `test_labels`", test_data=FIRST, test_labels=Y),
        npz("`images`, `labels`, of one part", images=FIRST, labels=Y),
        npz("`data`, `fine_labels`, `coarse_labels`", data=FIRST, fine_labels=Y, coarse_labels=Y // 2),
        npz("`x_val`, `y_val` and no test", x_val=FIRST, y_val=Y),
        npz("`np.savez(file, x, y)`: `arr_0`, `arr_1`", arr_0=LAST, arr_1=Y),
        npz("other keys, two arrays, of which one has the axes of images", pictures=LAST, kind=Y),
        npz("other keys, three arrays", None, pictures=LAST, kind=Y, number=Y),
        npz("two arrays of images", None, **TWICE),
        npz("the same, the key named", asked="npz:FILE?image=images", **TWICE),
        npz("`x_train`, `y_train` alone, for an evaluation", None, x_train=FIRST, y_train=Y),
        npz("floats in [0, 1]", x=FIRST / 255, y=Y),
        npz("floats that are whole, 0 to 255", x=FIRST.astype(np.float32), y=Y),
        npz("floats in 0 to 255 that are not whole", None, x=FIRST * 0.99, y=Y),
        npz("scikit-learn's digits, floats 0 to 16", None, x=(FIRST // 16).astype(float), y=Y),
        npz("integers 0 to 255 of another type", x=FIRST.astype(np.int64), y=Y),
        npz("16 bits", x=FIRST.astype(np.uint16) * 257, y=Y),
        npz("12 bits in a type of 16", None, x=FIRST.astype(np.uint16) * 16, y=Y),
        npz("normalised images", None, x=(FIRST / 255 - 0.5) / 0.25, y=Y),
        npz("booleans", (X > 127).float(), x=FIRST > 127, y=Y),
        npz("0 and 1 as uint8", None, x=(FIRST > 127).astype(np.uint8), y=Y),
        npz("grey images [N, H, W]", COLOUR[:, :1], x=GREY, y=Y),
        npz("grey images [N, H, W, 1]", COLOUR[:, :1], x=GREY[..., None], y=Y),
        npz(
            "13 channels of a satellite, last",
            COLOUR.repeat(1, 5, 1, 1)[:, :13, :10],
            x=np.tile(LAST, 5)[:, :10, :, :13],
            y=Y,
        ),
        npz("flat images [N, D]", None, x=FIRST.reshape(6, -1), y=Y),
        npz("images of 3x3 pixels in 3 channels", None, x=SMALL, y=Y),
        npz("the same, the order named", COLOUR[:, :, :3, :3], asked="npz:FILE?layout=NCHW", x=SMALL, y=Y),
        npz("labels as whole floats", x=FIRST, y=Y.astype(float)),
        npz("labels as text", None, x=FIRST, y=np.array(["cat"] * 6)),
        npz("several labels an image", None, x=FIRST, y=np.ones((6, 3), int)),
        npz("one label fewer than images", None, x=FIRST, y=Y[:5]),
        npz("arrays of Python objects", None, x=FIRST, y=np.array([None] * 6)),
        Habit("a folder of `x_test.npy`, `y_test.npy`", "npy:DIR", arrays_in),
        Habit("one .npy file of images", "npy:FILE", lambda folder: f"{arrays_in(folder)}/x_test.npy", None),
        Habit("CIFAR-10-C: `fog.npy`, `labels.npy`", "cifar10c:DIR:fog:3", corruptions("fog:3")),
        Habit("the same without a severity", "cifar10c:DIR:fog", corruptions("fog"), None),
        Habit("the same, another corruption", "cifar10c:DIR:frog:3", corruptions("frog:3"), None),
    ],
    "torch.save and safetensors": [
        saved("a dictionary of tensors", {"x": X, "y": LABELS}),
        saved("a pair (x, y), as torchvision once kept MNIST", (X, LABELS)),
        saved('{"train": (x, y), "test": (x, y)}', {"train": (255 - X, LABELS), "test": (X, LABELS)}),
        saved("a dictionary of NumPy's arrays", {"images": LAST, "labels": Y}),
        saved("a pickled TensorDataset", PAIRS, None),
        saved("a state dict", torch.nn.Linear(2, 2).state_dict(), None),
        Habit("safetensors of `images`, `labels`", "safetensors:FILE", tensors_file),
    ],
    "Parquet and Arrow": [
        table("Hugging Face's files, `image` and `label`", ("test-00000-of-00001", "train-00000-of-00001")),
        table("`img` as bytes, `fine_label` beside `coarse_label`", img=pngs(LAST), fine_label=Y, coarse_label=Y // 2),
        table(
            "`image` beside a `mask`, `label` beside a `height`",
            height=Y,
            image=pngs(LAST),
            mask=pngs(255 - LAST),
            label=Y,
        ),
        table(
            "a label called otherwise, described as a ClassLabel",
            image=pngs(LAST),
            digit=Y,
            id=Y,
            metadata={"digit": "ClassLabel"},
        ),
        table("a label called otherwise, not described", gives=None, image=pngs(LAST), digit=Y),
        table("the same, named", asked="parquet:DIR?label=digit", image=pngs(LAST), digit=Y),
        table("`label` and `target`", gives=None, image=pngs(LAST), label=Y, target=Y),
        table("two columns of images", gives=None, left=pngs(LAST), right=pngs(LAST), label=Y),
        table("labels as text", gives=None, image=pngs(LAST), label=["cat"] * 6),
        table("an empty label", gives=None, image=pngs(LAST), label=[0, 0, 1, 1, 2, None]),
        table("grey images among colours", gives=MIXED, image=[*pngs(GREY[:1]), *pngs(LAST[1:])], label=Y),
        table("`test.parquet`, `train.parquet`", ("test", "train")),
        table("a validation part and no test", ("data/validation-00000-of-00001", "data/train-00000-of-00001")),
        table("files 0000.parquet in a folder a part", ("plain/test/0000", "plain/train/0000")),
        table("the hub's cache, down to the snapshot", ("snapshots/1a2b/plain_text/test-00000-of-00001",)),
        table("two configurations", ("a/test-00000-of-00001", "b/test-00000-of-00001"), None),
        table("one of two configurations", ("a/test-00000-of-00001", "b/test-00000-of-00001"), asked="parquet:DIR/b"),
        table("one file", ("anything",), asked="parquet:DIR/anything.parquet"),
        table("files that name no part", ("first", "second"), None),
        table("a part that is not there", ("train-00000-of-00001",), None),
        table(
            "what `save_to_disk` wrote", ("test/data-00000-of-00001", "train/data-00000-of-00001"), asked="arrow:DIR"
        ),
        table("the cache of `datasets`", ("cifar10-test", "cifar10-train", "cache-0123"), asked="arrow:DIR"),
    ],
    "Folders of images": [
        folder_of("train/CLASS and test/CLASS"),
        folder_of("train and val", ("train", "val")),
        folder_of("train and validation", ("train", "validation")),
        folder_of("no parts: CLASS/FILE", ("",)),
        folder_of("ImageNet's val, in synsets", ("",), classes=("n01440764", "n01443537", "n01484850")),
        folder_of("val beside valid", ("val", "valid"), None),
        folder_of("train alone, for an evaluation", ("train",), None),
        folder_of("all in one folder, val/images", ("val",), None, classes=("images",)),
        folder_of("files of all sizes", gives=None, images=of_all_sizes),
        folder_of(
            "the same, with `--resize 16 --crop 12`",
            gives=prepared(of_all_sizes),
            images=of_all_sizes,
            resize=16,
            crop=12,
        ),
        folder_of(
            "the same, in the word",
            gives=prepared(of_all_sizes),
            images=of_all_sizes,
            asked="imagefolder:DIR?resize=16&crop=12",
        ),
        folder_of(
            "grey images among colours", gives=MIXED, images=lambda n: Image.fromarray(LAST[n] if n else GREY[n])
        ),
        folder_of("grey images alone stay grey", gives=COLOUR[:, :1], images=lambda n: Image.fromarray(GREY[n])),
        folder_of("RGBA: the alpha is left out", images=lambda n: Image.fromarray(np.dstack([LAST[n], GREY[n]]))),
        folder_of(
            "palettes become colours",
            gives=COLOUR[:, :1].expand(-1, 3, -1, -1),
            images=lambda n: Image.fromarray(GREY[n]).convert("P"),
        ),
        folder_of("EXIF of a camera on its side: as torchvision, not turned", images=turned),
        folder_of(
            "grey PNGs of 16 bits",
            gives=COLOUR[:, :1],
            images=lambda n: Image.fromarray(GREY[n].astype(np.uint16) * 257),
        ),
        folder_of(
            "TIFFs of floats", gives=None, images=lambda n: Image.fromarray(GREY[n].astype(np.float32)), ending="tiff"
        ),
    ],
    "Python": [
        given("tensors", "(x, y)", (X, LABELS)),
        given("arrays with the channels last, labels in a list", "(x, y)", (LAST, Y.tolist())),
        given("floats that need a gradient", "(x, y)", (COLOUR.clone().requires_grad_(), LABELS)),
        given("a list of PIL's images", "(images, y)", ([Image.fromarray(image) for image in LAST], LABELS)),
        given("a list of pairs", "[(image, label), ...]", list(zip(X, Y.tolist(), strict=True))),
        given("TensorDataset", "TensorDataset(x, y)", PAIRS),
        given("Subset", "Subset(set, rows)", Subset(PAIRS, range(6))),
        given("a set of PIL's images, as torchvision's are", "CIFAR10(root)", Pictures()),
        given("the same with ToTensor", "CIFAR10(root, transform=ToTensor())", Pictures(ToTensor())),
        Habit("torchvision's ImageFolder", "dataset=ImageFolder(root, ToTensor())", image_folder_of_torchvision),
        given("rows as dictionaries, as Hugging Face's are", "load_dataset(...)", Rows()),
        given("IterableDataset", "stream", Stream()),
        given("DataLoader", "DataLoader(set)", DataLoader(PAIRS, batch_size=4)),
        given("DataLoader that shuffles", "DataLoader(set, shuffle=True)", DataLoader(PAIRS, shuffle=True), None),
        given(
            "DataLoader that drops the last",
            "DataLoader(set, drop_last=True)",
            DataLoader(PAIRS, 4, drop_last=True),
            None,
        ),
        given("Normalize in the transform", "set", Pictures(Compose([ToTensor(), Normalize([0.5], [0.25])])), None),
        given("a random transform", "set", Pictures(Compose([RandomRotation(90), ToTensor()])), None),
        given("parts", '{"train": set, "test": set}', {"train": TensorDataset(255 - X, LABELS), "test": PAIRS}),
        given("a dictionary of arrays", '{"images": x, "labels": y}', {"images": LAST, "labels": Y}),
        given("a Split of robench", "Split(name, x, y)", datasets.Split("mine", X, LABELS)),
        given("with `resize=16, crop=12`", "(x, y)", (X, LABELS), prepared(colour), resize=16, crop=12),
        Habit("a path to a file", 'dataset=Path("mine.pt")', path_of(saved("", (X, LABELS)).make)),
        Habit("a path to a folder of images", 'dataset=Path("val")', path_of(folder_of("", ("",)).make)),
        Habit("a path to a folder of Parquet files", 'dataset=Path("DIR")', path_of(table("").make)),
        Habit("a path as text", 'dataset="mine.pt"', lambda folder: str(path_of(saved("", (X, LABELS)).make)(folder))),
        given("labels before images", "(y, x)", (LABELS, X), None),
        given("images alone", "x", X, None),
        given("three of them", "(x, y, z)", (X, LABELS, LABELS), None),
        given("what a checkpoint trained on such data says", '"python:arrays-1a2b3c"', "python:arrays-1a2b3c", None),
    ],
}

EVERY = [habit for habits in HABITS.values() for habit in habits]


def outcome(habit: Habit, folder: Path) -> datasets.Split | str:
    """The data, or the sentence that refuses them."""
    try:
        return datasets.load(habit.make(folder), "test", **habit.options)
    except UserError as error:
        return str(error)


@pytest.mark.parametrize("habit", EVERY, ids=lambda habit: f"{habit.asked}, {habit.what}")
def test_a_habit(habit: Habit, tmp_path: Path) -> None:
    found = outcome(habit, tmp_path)
    if habit.gives is None:
        assert isinstance(found, str)
        assert "\n" not in found
    else:
        assert isinstance(found, datasets.Split), found
        assert torch.equal(found.floats(slice(None)), habit.gives.float())
        assert found.labels.tolist() == Y.tolist()


def written() -> str:
    """The table."""
    lines = [
        "# Habits of data",
        "",
        "What people have their images in, how they ask for it, and what becomes of it; a test makes each on the fly",
        "and compares the pixels. `DIR` and `FILE` are paths, `dataset=` is Python's. Generated:",
        "`python -m tests.workflows.test_habits_of_data`.",
    ]
    for kind, habits in HABITS.items():
        lines += ["", f"## {kind}", "", "| what there is | asked for as | |", "|---|---|---|"]
        for habit in habits:
            with tempfile.TemporaryDirectory() as folder:
                found = outcome(habit, Path(folder))
                said = "works" if habit.gives is not None else f"refused: {found}"
                said = said.replace(folder, "DIR").replace(Path(folder).name, "DIR")
            lines.append(f"| {habit.what} | `{habit.asked}` | {said} |")
    return "\n".join([*lines, ""])


def test_the_table_is_current() -> None:
    assert TABLE.read_text() == written(), "python -m tests.workflows.test_habits_of_data writes it anew"


def test_most_habits_work() -> None:
    assert len(EVERY) >= 100
    assert sum(habit.gives is not None for habit in EVERY) >= 70


if __name__ == "__main__":
    TABLE.write_text(written())
