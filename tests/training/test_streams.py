"""What the loop hands a defense that asks for more than labelled images."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

from robench.data import datasets
from robench.models import checkpoint
from robench.training.defense import Batch, Defense, Step
from robench.training.loop import train
from robench.training.streams import stratified
from robench.utils.errors import UserError
from tests.training.test_loop import plan, with_defense, with_target

SEEN: list[Batch] = []


@dataclass(frozen=True)
class Watching(Defense):
    streams: ClassVar[Sequence[str]] = ("labelled", "unlabelled", "target")

    def losses(self, batch: Batch, step: Step) -> dict[str, Tensor]:
        SEEN.append(batch)
        return {"model": nn.functional.cross_entropy(step.model(batch.x), batch.y)}


def watched(tmp_path: Path, **settings: Any) -> list[Batch]:
    SEEN.clear()
    train(with_defense(with_target(plan(limit=None, epochs=2), **settings), Watching()), tmp_path / "m.pt")
    return list(SEEN)


def rows(images: Tensor) -> set[tuple[float, ...]]:
    return {tuple(image.flatten().tolist()) for image in images}


def test_an_epoch_is_a_pass_over_the_longest_stream_and_the_others_go_round(tmp_path: Path) -> None:
    """1,197 images: 90 keep their label, 1,107 do not, in batches of 100; the target has 500."""
    seen = watched(tmp_path, labels=90, batch_size=30, unlabelled_batch=100)
    assert len(seen) == 2 * 11
    shapes = {(len(batch.x), len(batch.y), *(len(more) for more in batch.more.values())) for batch in seen}
    assert shapes == {(30, 30, 100, 100)}
    labelled = [rows(batch.x) for batch in seen]
    assert len(set().union(*labelled)) == 90
    assert labelled[0].isdisjoint(labelled[1])
    assert labelled[0] | labelled[1] | labelled[2] == set().union(*labelled)
    assert labelled[0] != labelled[3]  # another order
    unlabelled = [rows(batch.more["unlabelled"]) for batch in seen]
    assert len(set().union(*unlabelled[:11])) > 1090  # some digits are alike
    assert set().union(*unlabelled).isdisjoint(set().union(*labelled))
    flipped = rows(datasets.load("digits", "test").images[:].flip(2))
    assert set().union(*(rows(batch.more["target"]) for batch in seen[:5])) == flipped


def test_labels_are_those_of_their_images(tmp_path: Path) -> None:
    split = datasets.load("digits", "train")
    label = {tuple(image.flatten().tolist()): int(y) for image, y in zip(split.images[:], split.labels, strict=True)}
    for batch in watched(tmp_path, labels=90, batch_size=30):
        assert [label[tuple(image.flatten().tolist())] for image in batch.x] == batch.y.tolist()


def test_without_a_number_of_labels_all_images_are_unlabelled_too(tmp_path: Path) -> None:
    seen = watched(tmp_path)[:18]
    assert rows(torch.cat([batch.x for batch in seen])) & rows(torch.cat([batch.more["unlabelled"] for batch in seen]))
    assert not torch.equal(seen[0].x, seen[0].more["unlabelled"])


def test_the_card_names_the_images_that_kept_their_label(tmp_path: Path) -> None:
    chosen: list[list[int]] = []
    for seed in (0, 0, 1):
        out = tmp_path / f"{len(chosen)}.pt"
        train(plan("standard", seed=seed, limit=None, labels=70, batch_size=10, epochs=1), out)
        card = checkpoint.card_of(checkpoint.read(out))
        assert card is not None
        chosen.append(card.labelled)
    assert chosen[0] == chosen[1] != chosen[2]
    labels = datasets.load("digits", "train").labels[chosen[0]]
    assert labels.bincount().tolist() == [7] * 10
    assert train(plan("standard", epochs=1), tmp_path / "all.pt").labelled == []


def test_as_many_of_each_class() -> None:
    labels = torch.tensor([0] * 50 + [1] * 30 + [2] * 20)
    chosen = stratified(labels, 31, 0)
    assert labels[chosen].bincount().tolist() == [11, 10, 10]
    assert len(set(chosen.tolist())) == 31
    assert torch.equal(chosen, stratified(labels, 31, 0))
    assert not torch.equal(chosen, stratified(labels, 31, 1))
    counts = torch.zeros(100)
    for seed in range(200):
        counts[stratified(labels, 30, seed)] += 1
    assert counts.min() > 0  # every image has its chance


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"labels": 5}, "at least a label for each of the 10 classes, got 5"),
        ({"labels": 1190}, r"at most \d+ images of class \d, all there are, got 119 of 1190"),
        ({"labels": 40}, "at least a batch of 64 training images with a label, got 40"),
        ({"unlabelled_batch": 5000}, "at least a batch of 5000 training images without a label, got 1197"),
        ({"unlabelled_batch": 600, "labels": 100}, "at least a batch of 600 images of the target domain, got 500"),
    ],
)
def test_streams_that_cannot_be(settings: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message) as caught:
        watched(tmp_path, **settings)
    assert "\n" not in str(caught.value)


def test_a_domain_to_adapt_to_is_asked_for(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="name their data set with --target"):
        train(plan("vada"), tmp_path / "m.pt")
