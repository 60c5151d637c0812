"""The pictures that `bench` took of a model's examples, as robench/benchmarking/measure/gallery.py left them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robench.ledger.measurements import Measurements
from robench.reports.evaluations import evaluation_id


@dataclass(frozen=True)
class Pictured:
    """A test image, the adversarial example and the perturbation: PNG in base64."""

    example: int
    label: int
    clean_prediction: int
    adversarial_prediction: int
    fooled: bool
    distance: float
    clean: str
    adversarial: str
    perturbation: str

    @property
    def mistaken(self) -> bool:
        """The model is wrong already on the image as it is."""
        return self.clean_prediction != self.label

    @property
    def size(self) -> int:
        return len(self.clean) + len(self.adversarial) + len(self.perturbation)


@dataclass(frozen=True)
class Gallery:
    """`magnified`: the factor on the perturbations; `reduced`: pixels of an image that one of a picture stands for."""

    attack: str
    magnified: float
    reduced: int
    examples: Sequence[Pictured]

    @classmethod
    def of(cls, found: Mapping[str, Any]) -> "Gallery":
        return cls(**{**found, "examples": [Pictured(**example) for example in found["examples"]]})

    @property
    def size(self) -> int:
        """In characters."""
        return sum(example.size for example in self.examples)


def galleries(results: Path | str, unread: list[str]) -> dict[str, Gallery]:
    """The newest by the id of its run; `unread` is told what is wrong with those that cannot be shown."""
    newest: dict[str, Gallery] = {}
    measured, broken = Measurements(results).readable("gallery")
    unread += broken
    for measurement in measured:
        try:
            newest.setdefault(evaluation_id(measurement.key), Gallery.of(measurement.found))
        except (KeyError, TypeError, ValueError) as error:
            name = measurement.about.get("model", "a model")
            unread.append(f"the gallery of {name} is not one of this robench ({error}); robench bench takes it anew")
    return newest
