"""Where benchmarks and queues work: folders of results and data, and a device."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from robench.data import datasets
from robench.data.datasets import Split
from robench.specs.queue import Item
from robench.training import recipe
from robench.training.plan import Plan, checkpoint_path
from robench.utils.device import resolve_device
from robench.utils.errors import UserError


@dataclass(frozen=True)
class Workspace:
    """Where the data lie and results go, and the device; a queue's training images are read once."""

    results: Path | str
    data_root: Path | str
    download: bool
    device: str
    splits: dict[str, Split] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        results: Path | str = "results",
        data_root: Path | str = "data",
        download: bool = False,
        device: str | None = None,
    ) -> Self:
        """From the words of a command; by default CUDA where there is one."""
        return cls(results, data_root, download, resolve_device(device))

    def training_images(self, dataset: str) -> Split:
        if dataset not in self.splits:
            self.splits[dataset] = datasets.load(dataset, "train", root=self.data_root, download=self.download)
        return self.splits[dataset]

    def shape(self, item: Item) -> Sequence[int]:
        """Of the images that it is trained on; empty where they are missing: then its recipe is that for their name."""
        try:
            return self.training_images(item.shared.dataset).shape
        except UserError:
            return ()

    def plan(self, item: Item) -> tuple[Plan, Path]:
        """Its training, and where its checkpoint lies."""
        shared = item.shared
        split = self.training_images(shared.dataset)
        resolved = recipe.resolve(item.defense, shared.dataset, split.shape, item.changes)
        plan = Plan(resolved, shared.dataset, split, shared.limit, item.seed, shared.precision)
        return plan, checkpoint_path(plan, self.results)
