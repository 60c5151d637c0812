"""What is evaluated: a model against a battery on a data set within a threat."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from robench.battery import Attack, Readings
from robench.checkpoint import used_versions
from robench.data import Split
from robench.errors import UserError
from robench.fingerprints import source_fingerprint
from robench.ledger import CLEAN
from robench.passes import passes_of
from robench.search import Images
from robench.subject import Subject
from robench.threat import ThreatModel

ENGINE = ("threat", "data", "draws", "losses", "classifier", "verify", "search", "foreign", "rows", "running")
SOURCE = source_fingerprint(Path(__file__).with_name(f"{name}.py") for name in ENGINE)
"""Of the modules whose code decides the numbers, as they were when they were imported."""

Mode = Literal["columns", "worst-case"]
"""Every attack on every example, or each on the survivors of the cheaper ones: the same worst case, for less."""


@dataclass(frozen=True)
class Evaluation:
    """A subject against a battery on a data set within a threat: everything that could change a number.

    `split` holds the images in the set's own order; an example's row is its id.
    """

    subject: Subject
    split: Split
    threat: ThreatModel
    attacks: Sequence[Attack]
    images: Split | None = None
    """the pool that attacks which ask for one draw their targets from"""
    readings: Readings = "any"
    seed: int = 0
    device: str = "cpu"
    batch_size: int = 128
    n: int | None = None
    """the first n examples; all where it is None"""
    mode: Mode = "columns"

    def __post_init__(self) -> None:
        check_n(self.n)

    @property
    def wanted(self) -> range:
        """The ids of its examples."""
        return range(len(self.split) if self.n is None else min(self.n, len(self.split)))

    def key(self, attack: Attack | None) -> dict[str, Any]:
        """What the fingerprint of a cell is made of; no attack is the clean cell."""
        return {
            "model": self.subject.key(),
            "dataset": self.split.fingerprint,
            "threat": [self.threat.norm, self.threat.eps],
            "attack": self._attack_key(attack) if attack else CLEAN,
            "precision": "float32",
            "engine": SOURCE,
            "libraries": {name: used_versions()[name] for name in ("torch", "numpy")},
        }

    def _attack_key(self, attack: Attack) -> dict[str, Any]:
        pool = {"images": self.images.fingerprint} if attack.resources and self.images else {}
        return {**attack.key(), **pool, **self._batch_key(attack), "seed": self.seed, "readings": self.readings}

    def _batch_key(self, attack: Attack) -> dict[str, Any]:
        """What makes the batches, for an attack whose outcome depends on them."""
        if not attack.companions:
            return {}
        batch = {"batch_size": self.batch_size, "n": len(self.wanted)}
        survivors = {"after": [other.key() for other in self.attacks]} if self.mode == "worst-case" else {}
        return {**batch, **survivors}

    def passes(self, attack: Attack) -> tuple[int, int]:
        """Forward and backward passes of an example that stands to the end."""
        image = self.split.floats(slice(1))
        return passes_of(attack, self.threat, image, self.split.classes, self.pool(image.device))

    def pool(self, device: torch.device) -> Images | None:
        """The images for attacks, in order of label, on the device."""
        if self.images is None:
            return None
        return Images.of(self.images.floats(slice(None)).to(device), self.images.labels.to(device))

    def about(self, attack: Attack | None) -> dict[str, Any]:
        """Names for people."""
        return {
            **self.subject.about(),
            "dataset": self.split.name,
            "norm": self.threat.norm,
            "eps": self.threat.eps_written,
            "attack": attack.name if attack else CLEAN,
            "classes": self.split.classes,
        }


def check_n(n: int | None) -> None:
    if n is not None and n < 1:
        raise UserError(f"expected n of at least 1, got {n}")
