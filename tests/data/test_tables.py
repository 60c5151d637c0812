"""Sets of any size, whose images stay on disk."""

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from robench.data import datasets, pictures
from robench.data.stored import StoredImages
from robench.data.tables import TableStore
from robench.evaluation import shards
from robench.evaluation.plan import EvaluationOptions, plan_evaluation
from robench.evaluation.run import run
from robench.ledger import parts
from robench.utils.errors import UserError
from tests.evaluation.cases import assert_equal_ledgers, content
from tests.helpers import Linear


def write(folder: Path, images: np.ndarray, labels: np.ndarray, *, group: int, files: int = 1) -> str:
    """A set in Parquet files, in groups of rows; gives its name."""
    folder.mkdir()
    for number, rows in enumerate(np.array_split(np.arange(len(images)), files)):
        encoded = []
        for image in images[rows]:
            stream = io.BytesIO()
            Image.fromarray(image).save(stream, "PNG")
            encoded.append({"bytes": stream.getvalue(), "path": None})
        table = pa.table({"image": encoded, "label": labels[rows]})
        pq.write_table(table, folder / f"test-{number:05}-of-{files:05}.parquet", row_group_size=group)
    return f"parquet:{folder}"


PIXELS = np.random.default_rng(0).integers(0, 256, (300, 8, 8), dtype=np.uint8)


SIDES = (PIXELS.mean((1, 2)) > 127).astype(np.int64)


def bright() -> Linear:
    """Tells images brighter than the middle from darker ones."""
    return Linear(torch.stack([-torch.ones(64), torch.ones(64)]), torch.tensor([31.9, -31.9]))


def test_images_on_disk_are_those_in_memory(tmp_path: Path) -> None:
    name = write(tmp_path / "set", PIXELS, SIDES, group=64, files=2)
    streamed, loaded = datasets.load(name, "test", stream=True), datasets.load(name, "test")
    assert isinstance(streamed.images, StoredImages)
    assert isinstance(loaded.images, torch.Tensor)
    assert streamed.shape == loaded.shape == (1, 8, 8)
    assert torch.equal(streamed.labels, loaded.labels)
    for rows in (slice(None), slice(60, 70), [299, 0, 149, 150, 3], np.arange(0, 300, 37), torch.tensor([5]), []):
        assert torch.equal(streamed.floats(rows), loaded.floats(rows))
    assert torch.equal(streamed.take(slice(1, 4)).images[:], loaded.images[1:4])
    moved = streamed.to(torch.device("cpu"))
    assert torch.equal(moved.floats([7]), loaded.floats([7]))


def test_the_fingerprint_of_a_set_on_disk_is_of_its_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one_pixel, one_label, swapped = PIXELS.copy(), SIDES.copy(), np.arange(300)
    one_pixel[250, 3, 3] ^= 1
    one_label[250] = 2
    swapped[[7, 8]] = [8, 7]
    sets = [
        write(tmp_path / "a", PIXELS, SIDES, group=64),
        write(tmp_path / "b", PIXELS, SIDES, group=7, files=3),  # the same, otherwise divided
        write(tmp_path / "c", one_pixel, SIDES, group=64),
        write(tmp_path / "d", PIXELS, one_label, group=64),
        write(tmp_path / "e", PIXELS[swapped], SIDES, group=64),
    ]
    decoded: list[str] = []

    def decode(encoded: Any, where: str, **_: Any) -> np.ndarray:
        decoded.append(where)
        return np.zeros((1, 8, 8), dtype=np.uint8)

    monkeypatch.setattr(pictures, "decode", decode)
    first, again, *others = [datasets.load(name, "test", stream=True).fingerprint for name in sets]
    assert first == again
    assert len({first, *others}) == 4
    assert len(decoded) == len(sets)  # the first image tells the size


def test_a_broken_image_on_disk_is_named_when_it_is_met(tmp_path: Path) -> None:
    name = write(tmp_path / "set", PIXELS[:24], SIDES[:24], group=9)
    table = pq.read_table(tmp_path / "set").to_pydict()
    table["image"][20]["bytes"] = b"no"
    pq.write_table(pa.table(table), tmp_path / "set" / "test-00000-of-00001.parquet")
    evaluation = plan_evaluation(bright(), EvaluationOptions(attacks=["fgsm"], eps=0.01, dataset=name))
    with pytest.raises(UserError, match="row 20: not an image"):
        run(evaluation, tmp_path)
    assert (
        run(plan_evaluation(bright(), EvaluationOptions(attacks=["fgsm"], eps=0.01, dataset=name, n=20)), tmp_path).n
        == 20
    )


def test_a_large_set_is_held_a_window_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody holds more rows of the ledger than a window's, more images than a batch's, or more groups than one."""
    name = write(tmp_path / "set", PIXELS, SIDES, group=50)
    evaluation = plan_evaluation(
        bright(), EvaluationOptions(attacks=["fgsm", "pgd-10"], eps=0.02, dataset=name, batch_size=20)
    )
    whole = run(evaluation, tmp_path / "whole")
    monkeypatch.setattr(parts, "WINDOW", 128)
    monkeypatch.setattr(shards, "LARGEST", 40)
    rows, images, groups = [0], [0], [0]
    merged, item = parts._merged, StoredImages.__getitem__

    def reading(parts: Sequence[Path], ids: range | None) -> pa.Table:
        table = merged(parts, ids)
        rows.append(len(table))
        return table

    def asked(self: StoredImages, wanted: Any) -> torch.Tensor:
        found = item(self, wanted)
        images.append(len(found))
        assert isinstance(self.store, TableStore)
        groups.append(len(self.store._kept))
        return found

    monkeypatch.setattr(parts, "_merged", reading)
    monkeypatch.setattr(StoredImages, "__getitem__", asked)
    summary = run(evaluation, tmp_path / "windows")
    assert max(rows) == 128
    assert max(images) == 100  # the diagnosis takes the first 100
    assert sorted(set(images))[-2] == 20
    assert max(groups) == 1
    assert content(summary) == content(whole)
    assert_equal_ledgers(tmp_path / "whole", tmp_path / "windows")


def png(image: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "PNG")
    return stream.getvalue()


IMAGES, MASKS, CLASSES = [png(image) for image in PIXELS[:4]], [png(255 - image) for image in PIXELS[:4]], [0, 1, 1, 0]


def features(**kinds: str) -> dict[bytes, bytes]:
    """Hugging Face's description of a table."""
    described = {name: {"_type": kind} for name, kind in kinds.items()}
    return {b"huggingface": json.dumps({"info": {"features": described}}).encode()}


@pytest.mark.parametrize(
    ("columns", "options", "metadata"),
    [
        ({"height": [9] * 4, "label": CLASSES, "image": IMAGES, "mask": MASKS}, "", {}),
        ({"coarse_label": [1] * 4, "fine_label": CLASSES, "img": IMAGES}, "", {}),
        ({"id": [9] * 4, "Target": CLASSES, "picture": IMAGES}, "", {}),
        ({"labels": [[0], [1], [1], [0]], "image": IMAGES}, "", {}),
        ({"label": [0.0, 1.0, 1.0, 0.0], "image": IMAGES}, "", {}),
        ({"label": [False, True, True, False], "image": IMAGES}, "", {}),
        ({"digit": CLASSES, "height": [9] * 4, "image": IMAGES}, "", features(digit="ClassLabel", image="Image")),
        ({"digit": CLASSES, "raw": MASKS, "scan": IMAGES}, "?label=digit", features(scan="Image")),
        ({"a": IMAGES, "b": MASKS, "c": CLASSES, "label": [9] * 4}, "?image=a&label=c", {}),
    ],
)
def test_columns_that_tell(columns: dict[str, Any], options: str, metadata: dict[bytes, bytes], tmp_path: Path) -> None:
    pq.write_table(pa.table(columns).replace_schema_metadata(metadata), tmp_path / "test.parquet")
    split = datasets.load(f"parquet:{tmp_path}{options}", "test")
    assert np.array_equal(split.images[:, 0].numpy(), PIXELS[:4])
    assert split.labels.tolist() == CLASSES


@pytest.mark.parametrize(
    ("columns", "options", "message"),
    [
        (
            {"label": CLASSES, "target": CLASSES, "image": IMAGES},
            "",
            r"label and target may all be the labels; .*\?label=",
        ),
        (
            {"image": IMAGES, "img": MASKS, "label": CLASSES},
            "",
            r"image and img may all be the images; .*\?image=image",
        ),
        ({"a": IMAGES, "b": MASKS, "label": CLASSES}, "", "a and b may all be the images"),
        (
            {"image": IMAGES, "height": CLASSES},
            "",
            r"a column of integer labels, .*got image \(binary\), height \(int64\)",
        ),
        ({"image": IMAGES, "label": ["a"] * 4}, "", "integer labels, got text"),
        ({"image": IMAGES, "label": [0.5] * 4}, "", "integer labels, got float64"),
        ({"image": IMAGES, "label": [0, None, 1, 1]}, "", "1 empty ones in test.parquet"),
        ({"image": IMAGES, "label": CLASSES}, "?label=class", r"no column class; it has image"),
        ({"image": IMAGES, "label": CLASSES}, "?image=label", "encoded images in label, got int64"),
        ({"image": [{"bytes": None, "path": "a"}] * 4, "label": CLASSES}, "", "row 0: there is no image"),
    ],
)
def test_columns_that_do_not_tell(columns: dict[str, Any], options: str, message: str, tmp_path: Path) -> None:
    pq.write_table(pa.table(columns), tmp_path / "test.parquet")
    with pytest.raises(UserError, match=message) as caught:
        datasets.load(f"parquet:{tmp_path}{options}", "test")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("files", "asked", "found"),
    [
        (("test-00000-of-00002", "test-00001-of-00002", "train-00000-of-00001"), "", 2),
        (("data/test-00000-of-00001", "data/train-00000-of-00001"), "", 1),
        (("plain/test/0000", "plain/train/0000"), "", 1),
        (("validation-00000-of-00001", "train-00000-of-00001"), "", 1),
        (("cifar10-test", "cifar10-train"), "", 1),
        (("a/test-00000-of-00001", "b/test-00000-of-00001"), "/b", 1),
        (("anything",), "", 1),
        (("0000", "0001"), "", 2),
        (("train-00000-of-00001", "test-00000-of-00001"), "/train-00000-of-00001.parquet", 1),
        (
            ("a/test-00000-of-00001", "b/test-00000-of-00001"),
            "",
            "it has the configurations a, b; name the folder of one",
        ),
        (("val", "valid"), "", "val and valid may both"),
        (("train",), "", r"found train.parquet"),
        (("first", "second"), "", "none of first, second says by its name"),
        ((), "", "found none"),
    ],
)
def test_the_files_of_a_part(files: Sequence[str], asked: str, found: int | str, tmp_path: Path) -> None:
    for file in files:
        path = tmp_path / f"{file}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table({"image": IMAGES[:1], "label": CLASSES[:1]}), path)
    if isinstance(found, str):
        with pytest.raises(UserError, match=found):
            datasets.load(f"parquet:{tmp_path}{asked}", "test")
    else:
        assert len(datasets.load(f"parquet:{tmp_path}{asked}", "test")) == found


@pytest.mark.parametrize("write", [pa.ipc.new_stream, pa.ipc.new_file])
def test_arrow_files(write: Any, tmp_path: Path) -> None:
    """As `save_to_disk` has them, a folder for each part."""
    for part, rows in (("train", slice(0, 3)), ("test", slice(1, 4))):
        (tmp_path / part).mkdir()
        images = [{"bytes": image, "path": None} for image in IMAGES[rows]]
        table = pa.table({"image": images, "label": CLASSES[rows]})
        for name in ("data-00000-of-00001", "cache-123"):
            with write(tmp_path / part / f"{name}.arrow", table.schema) as writer:
                writer.write_table(table, max_chunksize=2)
    streamed = datasets.load(f"arrow:{tmp_path}", "test", stream=True)
    assert isinstance(streamed.images, StoredImages)
    assert np.array_equal(streamed.images[:][:, 0].numpy(), PIXELS[1:4])
    assert streamed.labels.tolist() == CLASSES[1:]
    assert len(datasets.load(f"arrow:{tmp_path}/train", "train")) == 3
    (tmp_path / "test" / "data-00000-of-00001.arrow").write_bytes(b"no")
    with pytest.raises(UserError, match="dataset arrow"):
        datasets.load(f"arrow:{tmp_path}", "test")


def test_grey_among_colours_and_sixteen_bits(tmp_path: Path) -> None:
    colours = np.stack([PIXELS[0]] * 3, -1) // np.array([1, 2, 3], np.uint8)
    deep = png(PIXELS[1].astype(np.uint16) * 257)
    for images, channels in (([IMAGES[0], png(colours)], 3), ([IMAGES[0], deep], 1), ([deep, png(colours)], 3)):
        pq.write_table(pa.table({"image": images, "label": [0, 1]}), tmp_path / "test.parquet")
        split = datasets.load(f"parquet:{tmp_path}", "test")
        assert split.shape == (channels, 8, 8)
        if images[0] == deep:
            assert np.array_equal(split.images[0, 1].numpy(), PIXELS[1])
        if images[1] == deep:
            assert np.array_equal(split.images[1, 0].numpy(), PIXELS[1])
    stream = io.BytesIO()
    Image.fromarray(PIXELS[0].astype(np.float32)).save(stream, "TIFF")
    pq.write_table(pa.table({"image": [stream.getvalue()], "label": [0]}), tmp_path / "test.parquet")
    with pytest.raises(UserError, match="row 0: its pixels are numbers of unknown scale"):
        datasets.load(f"parquet:{tmp_path}", "test")
