"""The images that training draws on, in streams: labelled ones, unlabelled ones, those of a target domain."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from robench.data.datasets import Split
from robench.training.augment import augment
from robench.training.defense import LABELLED, TARGET, UNLABELLED, Batch
from robench.training.rng import BatchGenerator
from robench.training.setup import Setup
from robench.utils.errors import UserError

Seeds = Callable[[str, int], int]
"""An independent seed for each purpose and index."""

PURPOSES = {LABELLED: "order", UNLABELLED: "unlabelled order", TARGET: "target order"}


@dataclass
class Stream:
    """Batches without end, pass after pass over the images, each in an order of its own that its number gives; a rest
    smaller than a batch is left out of a pass."""

    name: str
    split: Split
    batch_size: int
    seeds: Seeds
    weights: Tensor | None = None
    """of the images [N]: they are drawn in proportion to it, with replacement"""
    _shuffled: tuple[int, Tensor] | None = field(init=False, default=None)
    """the number of the pass, and its order"""

    def __post_init__(self) -> None:
        if len(self.split) < self.batch_size:
            images = {LABELLED: "training images with a label", UNLABELLED: "training images without a label"}
            which = images.get(self.name, "images of the target domain")
            raise UserError(f"expected at least a batch of {self.batch_size} {which}, got {len(self.split)}")

    @property
    def steps(self) -> int:
        """The batches of a pass."""
        return len(self.split) // self.batch_size

    def rows(self, step: int) -> Tensor:
        """Those of the batch of a step [B]."""
        number, position = divmod(step, self.steps)
        if self._shuffled is None or self._shuffled[0] != number:
            generator = torch.Generator().manual_seed(self.seeds(PURPOSES[self.name], number))
            if self.weights is None:
                order = torch.randperm(len(self.split), generator=generator)
            else:
                order = torch.multinomial(self.weights, len(self.split), replacement=True, generator=generator)
            self._shuffled = number, order.to(self.split.labels.device)
        return self._shuffled[1][position * self.batch_size : (position + 1) * self.batch_size]


@dataclass
class Streams:
    """What one defense asked for. `labelled_rows` are those of the images that keep their label, None where all do."""

    streams: Sequence[Stream]
    augmentations: Sequence[str]
    labelled_rows: Tensor | None

    @classmethod
    def of(cls, wanted: Sequence[str], setup: Setup, split: Split, target: Split | None, seeds: Seeds) -> "Streams":
        """For a defense that wants these, on the device of `split`. Of `split`, `setup.labels` images keep their label
        and the rest are unlabelled; without it all are labelled, and all are unlabelled images too."""
        labelled = None if setup.labels is None else stratified(split.labels.cpu(), setup.labels, seeds("labels", 0))
        sources: dict[str, Split | None] = {LABELLED: split, UNLABELLED: split, TARGET: target}
        if labelled is not None:
            others = torch.ones(len(split), dtype=torch.bool)
            others[labelled] = False
            sources |= {LABELLED: split.take(labelled), UNLABELLED: split.take(others)}
        streams = []
        for name in wanted:
            images = sources[name]
            if images is None:
                raise UserError("images of a target domain are needed; name their data set with --target")
            size = setup.batch_size if name == LABELLED else setup.unlabelled_batch or setup.batch_size
            weights = image_weights(images.labels, setup.class_weights) if name == LABELLED else None
            streams.append(Stream(name, images, size, seeds, weights))
        return cls(streams, setup.augment, labelled)

    @property
    def steps_per_epoch(self) -> int:
        """An epoch is a pass over the longest stream; the shorter ones go round."""
        return max(stream.steps for stream in self.streams)

    def batch(self, step: int, generator: BatchGenerator) -> Batch:
        """The images of a step; of the labelled ones the generator's share."""
        drawn: dict[str, Tensor] = {}
        y = torch.empty(0)
        for stream in self.streams:
            rows = stream.rows(step)
            if stream.name == LABELLED:
                rows = rows[generator.share.rows]
            drawn[stream.name] = augment(stream.split.floats(rows), self.augmentations, generator)
            if stream.name == LABELLED:
                y = stream.split.labels[rows]
        return Batch(drawn.pop(LABELLED), y, drawn)


def divided(count: int, holdout: int, limit: int | None) -> tuple[Tensor, Tensor]:
    """Of a training set of `count` images the rows trained on and those held out, which a fixed shuffle chooses,
    whatever the seed; of the first the `limit` first, where that is given."""
    shuffled = torch.randperm(count, generator=torch.Generator().manual_seed(0))
    return shuffled[holdout:].sort().values[:limit], shuffled[:holdout].sort().values


def image_weights(labels: Tensor, class_weights: Literal["balanced"] | Sequence[float] | None) -> Tensor | None:
    """How often each image [N] is drawn, for labels [N] and the weights of their classes."""
    if class_weights is None:
        return None
    counts = torch.bincount(labels.cpu())
    weights = 1 / counts.clamp(min=1) if class_weights == "balanced" else torch.tensor(class_weights)
    if len(weights) != len(counts) or not (weights >= 0).all() or not weights.sum() > 0:
        raise UserError(f"expected class_weights of {len(counts)} numbers from 0, or balanced, got {class_weights}")
    return weights[labels.cpu()].double()


def stratified(labels: Tensor, count: int, seed: int) -> Tensor:
    """Rows [count], sorted, of images drawn from labels [N], as many of each class; what does not divide evenly goes to
    the first classes, one each."""
    classes = int(labels.max()) + 1
    if count < classes:
        raise UserError(f"expected at least a label for each of the {classes} classes, got {count}")
    shuffled = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    chosen = []
    for label in range(classes):
        share = count // classes + (label < count % classes)
        of_class = shuffled[labels[shuffled] == label]
        if len(of_class) < share:
            raise UserError(
                f"expected labels for at most {len(of_class)} images of class {label}, all there are, got {share} of "
                f"{count} labels"
            )
        chosen.append(of_class[:share])
    return torch.cat(chosen).sort().values
