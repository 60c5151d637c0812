"""What is evaluated: a model against a battery on a data set within a threat."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from robench.access import Access
from robench.data.datasets import Split
from robench.evaluation.model_checks import Behaviour
from robench.evaluation.target import Subject
from robench.ledger.schema import CLEAN
from robench.search.attack import Attack
from robench.search.classifier import Classifier, shown_layers
from robench.search.cost import PassCount, count_passes
from robench.search.declaration import Task
from robench.search.fast.tuning import Tuning, tune
from robench.search.judge import VOTES, Judge
from robench.search.resources import Images, Resources, Sources, TrainingImages
from robench.specs.choices import EvaluationProtocol, Mode, Precision
from robench.specs.suite import Readings
from robench.threat import ThreatModel
from robench.utils.code import code_fingerprint, file_of
from robench.utils.sizes import check_count
from robench.utils.versions import used_versions

WORKER = file_of("robench.evaluation.run")
"""Where an evaluation starts: its code, and all that its imports and its executors lead to, is in the key."""

DRAWS = 10

PROBED = 16
"""Images on which the fastest way to make passes is tried out."""


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
    sources: Sequence[Subject] = ()
    """other models, for attacks by transfer"""
    sources_draw: bool = False
    """some source is stochastic"""
    training: Split | None = None
    """the images on which attacks that ask for them train a network"""
    readings: Readings = "any"
    seed: int = 0
    device: str = "cpu"
    batch_size: int = 128
    n: int | None = None
    """the first n examples; all where it is None"""
    mode: Mode = "columns"
    behaviour: Behaviour = field(default_factory=Behaviour)
    draws: int = DRAWS
    """passes whose mean an attack on a stochastic model sees"""
    protocol: EvaluationProtocol = "adaptive"
    precision: Precision = "auto"
    """of the passes of attacks that take gradients; what they find is judged in float32"""
    left_out: Mapping[str, str] = field(default_factory=dict)
    """attacks of the suite that cannot be run here, with the reason"""
    classes: int | None = None
    """of the model; None: as many as the labels tell"""
    data_root: Path | str = "data"
    """where the data sets lie, for measurements that train"""

    def __post_init__(self) -> None:
        check_n(self.n)

    def task(self, resources: Collection[type]) -> Task:
        """What an attack that is given these kinds of resources is run on."""
        return Task(
            self.threat.norm,
            self.subject.gives,
            self.classes or max(self.split.classes, 2),
            tuple(self.split.shape),
            shown_layers(self.subject.model),
            resources,
            self.behaviour.stochastic and self.protocol == "adaptive",
        )

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
            **({"votes": self.votes} if self.behaviour.stochastic else {}),
            **(self._batch_key() if self.behaviour.mixes else {}),
            "precision": self.precision_of(attack.access) if attack else "float32",
            "engine": code_fingerprint(WORKER),
            "libraries": {name: used_versions()[name] for name in ("torch", "numpy")},
        }

    def _attack_key(self, attack: Attack) -> dict[str, Any]:
        given: dict[str, Any] = {}
        if Images in attack.needs and self.images:
            given["images"] = self.images.fingerprint
        if Sources in attack.needs:
            given["sources"] = [source.key() for source in self.sources]
        if TrainingImages in attack.needs and self.training:
            given["training"] = self.training.fingerprint
        if self.protocol == "static":
            given["protocol"] = self.protocol
        elif self.behaviour.stochastic:
            given["draws"] = self.draws
        if attack.batch_dependent or self.uses_global_rng(attack):
            given |= self._batch_key()
        return {**attack.key(), **given, "seed": self.seed, "readings": self.readings_of(attack)}

    def uses_global_rng(self, attack: Attack) -> bool:
        """Whether a model that the attack asks draws global random numbers."""
        return self.behaviour.stochastic or (self.sources_draw and Sources in attack.needs)

    def readings_of(self, attack: Attack) -> Readings:
        """The suite's, but for an attack that ends at its first success."""
        return "any" if attack.stops else self.readings

    def can_be_cut(self, attack: Attack) -> bool:
        """Whether the beginning of its runs tells what a shorter run finds."""
        return self.readings_of(attack) == "any" and not self.uses_global_rng(attack)

    def _batch_key(self) -> dict[str, Any]:
        """What makes the batches, where outcomes depend on them."""
        batch = {"batch_size": self.batch_size, "n": len(self.wanted)}
        survivors = {"after": [other.key() for other in self.attacks]} if self.mode == "worst-case" else {}
        return {**batch, **survivors}

    def passes(self, attack: Attack) -> tuple[int, int]:
        """Forward and backward passes of an example that stays active to the end."""
        counted = self.count_passes(attack)
        return int(counted.forwards), int(counted.backwards)

    def count_passes(self, attack: Attack, copies: int = 1, before: Callable[[], None] = lambda: None) -> PassCount:
        """The same, as `robench.search.cost.count_passes` counts them."""
        image, classes = self.split.floats(slice(1)), self.classes or self.split.classes
        images, sources = self.resources(image.device).images, len(self.sources)
        found = count_passes(attack, self.threat, image, classes, images, sources, copies=copies, before=before)
        draws = self.draws if self.behaviour.stochastic and self.protocol == "adaptive" else 1
        return replace(found, forwards=found.forwards * draws, backwards=found.backwards * draws)

    @property
    def votes(self) -> int:
        return VOTES if self.behaviour.stochastic else 1

    def judges(self, device: torch.device | str) -> tuple[Judge, Judge]:
        """Of what is deployed, and of what the attacker sees of it: the same but for the static protocol."""
        draws = self.draws if self.behaviour.stochastic else 1
        deployed = Judge(Classifier(self.subject.model, device, draws), self.threat, self.votes)
        if self.protocol == "adaptive":
            return deployed, deployed
        assert self.subject.undefended is not None
        return deployed, Judge(Classifier(self.subject.undefended, device), self.threat)

    def precision_of(self, access: Access) -> Precision:
        """Of the passes of attacks with this access: those that query estimate slopes from small differences of logits,
        which low precision loses."""
        return self.precision if access == "gradients" else "float32"

    def tune(self, seen: Judge, precision: Precision) -> Tuning:
        """The fastest way to make passes of what attackers see: found by trying, so to be kept with what it made."""
        if self.subject.gives != "gradients" or self.behaviour.mixes or self.behaviour.stochastic:
            return Tuning()  # of a stochastic model a pass of other points draws other numbers
        classifier = seen.classifier
        return tune(
            classifier.model, self.split.floats(slice(PROBED)).to(classifier.device), precision, self.batch_size
        )

    def searcher(self, seen: Judge, tuning: Tuning) -> Classifier:
        """What attackers see, tuned."""
        loaded = seen.classifier
        return loaded if tuning == Tuning() else Classifier(loaded.model, loaded.device, loaded.draws, tuning)

    def resources(self, device: torch.device) -> Resources:
        """What its attacks may ask for, on the device."""
        images, sources, training = None, None, None
        if self.images is not None:
            images = Images.of(self.images.floats(slice(None)).to(device), self.images.labels.to(device))
        if self.sources:
            sources = Sources(tuple(Classifier(source.model, device) for source in self.sources))
        if self.training is not None:
            training = TrainingImages(self.training.floats(slice(None)).to(device), self.training.labels.to(device))
        return Resources(images, sources, training)

    def about(self, attack: Attack | None) -> dict[str, Any]:
        """Names for people."""
        return {
            **self.subject.about(),
            "dataset": self.split.name,
            "norm": self.threat.norm,
            "eps": self.threat.eps_written,
            "attack": self._called(attack) if attack else CLEAN,
            "access": attack.access if attack else None,
            **({"parts": self._about_parts(attack)} if attack else {}),
            **({"left_out": sorted(attack.left_out)} if attack and attack.left_out else {}),
            "protocol": self.protocol if attack else None,
            "draws": self.draws if self.behaviour.stochastic else None,
            **(self._about_sources() if attack and Sources in attack.needs else {}),
            "mixes": self.behaviour.mixes,
            "unseeded": self.behaviour.unseeded,
            "classes": self.split.classes,
        }

    def _about_parts(self, attack: Attack) -> dict[str, dict[str, Any]]:
        sights = attack.sights(self.split.classes, self.behaviour.stochastic)
        return {name: asdict(sight) for name, sight in sights.items()}

    def _about_sources(self) -> dict[str, Any]:
        return {
            "sources": [source.name for source in self.sources],
            "source_defenses": [source.about()["defense"] for source in self.sources],
        }

    def _called(self, attack: Attack) -> str:
        """Its name, with the models it transfers from."""
        return (
            f"{attack.name} from {', '.join(s.name for s in self.sources)}" if Sources in attack.needs else attack.name
        )


def check_n(n: int | None) -> None:
    check_count(n, "n")
