"""Sets of any size, whose images stay on disk."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from robench.data import datasets, parquet
from robench.data.parquet import StoredImages
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

    def decode(encoded: Any, where: str) -> np.ndarray:
        decoded.append(where)
        return np.zeros((1, 8, 8), dtype=np.uint8)

    monkeypatch.setattr(parquet, "decode", decode)
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
        groups.append(len(self._kept))
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
