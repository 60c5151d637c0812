"""From the words of a command to everything it is about to use, checked before anything is run."""

import warnings
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import get_args

import torch
from torch import nn

from robench.data import datasets
from robench.data.datasets import DataSource
from robench.data.parts import Part
from robench.data.preparation import Side
from robench.evaluation import verification
from robench.evaluation.array_model import ArrayFunction, ArrayModel
from robench.evaluation.evaluation import DRAWS, Evaluation
from robench.evaluation.model_checks import IMAGES, Behaviour, answering, check_model, differentiable, observe
from robench.evaluation.target import NotReused, Subject, card_of, load_model
from robench.evaluation.verification import Adversarial, Verification
from robench.models.checkpoint import Card
from robench.models.outputs import LogitsOf, path_of_logits
from robench.search.attack import Attack
from robench.search.catalog import attack, battery
from robench.search.classifier import Classifier, NoLogits, shown_layers
from robench.search.declaration import Task
from robench.search.resources import Images, Sources, TrainingImages
from robench.specs.choices import DATASET, EvaluationProtocol, Mode, Precision
from robench.threat import ThreatModel
from robench.training import recipe
from robench.training.recipe import DefaultThreat
from robench.utils.device import resolve_device
from robench.utils.errors import Notice, UserError, unknown
from robench.utils.sizes import Size, check_count, check_seed

POOL = 1000
BATCH_SIZE = {"cpu": 128, "cuda": 512}
TRAINING = 10_000
"""Images on which an attack may train; about as many, where the set's size is no multiple."""

Evaluable = str | Path | nn.Module | Subject | ArrayFunction
"""What can be evaluated: a checkpoint's path, "FACTORY.py:function", "torchvision:NAME" and the like, a module, a
loaded model, a function on arrays."""


@dataclass(frozen=True, kw_only=True)
class SubjectOptions:
    """What is asked of a model, its data, threat and device; None: what the checkpoint says, else the data set."""

    dataset: DataSource | None = None
    resize: Side | None = None
    crop: Side | None = None
    data_root: Path | str = "data"
    download: bool = False
    eps: Size | None = None
    norm: str | None = None
    arch: str | None = None
    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None
    weights: str | None = None
    device: str | None = None

    def load(self, source: DataSource, part: Part) -> datasets.Split:
        """One part of the data, prepared as asked."""
        return datasets.load(
            source,
            part,
            root=self.data_root,
            download=self.download,
            stream=True,
            resize=self.resize,
            crop=self.crop,
        )


@dataclass(frozen=True, kw_only=True)
class EvaluationOptions(SubjectOptions):
    """The keywords of an evaluation, as `robench.evaluate` explains them."""

    suite: str | None = None
    attacks: Sequence[str] = ()
    n: int | None = None
    sources: Sequence[str | Path | nn.Module | Subject] = ()
    mode: Mode | None = None
    protocol: EvaluationProtocol = "adaptive"
    draws: int | None = None
    seed: int = 0
    batch_size: int | None = None
    precision: Precision = "auto"

    def __post_init__(self) -> None:
        for kind, word, known in (
            ("mode", self.mode, get_args(Mode)),
            ("protocol", self.protocol, get_args(EvaluationProtocol)),
            ("precision", self.precision, get_args(Precision)),
        ):
            if word not in known and (kind, word) != ("mode", None):  # the suite's
                raise unknown(kind, str(word), known)
        check_count(self.batch_size, "a batch size")
        check_count(self.draws, "draws")
        check_seed(self.seed)


def plan_evaluation(model: Evaluable, options: EvaluationOptions) -> Evaluation:
    """Everything `evaluate` is about to use. What is not given comes from the checkpoint, the mode from the suite, else
    from the defaults."""
    subject, split, threat, source = _subject(model, options)
    if options.protocol == "static" and subject.undefended is None:
        raise UserError(f"the protocol static needs a test-time transform to leave out; {subject.name} has none")
    device = resolve_device(options.device)
    target = probed(subject, split, device, options.protocol)
    subject, behaviour = target.subject, target.behaviour
    if subject.gives == "scores" and not isinstance(subject.model, ArrayModel):
        _say(f"{subject.name} gives no gradient, for no path leads from its logits back to the image: scores alone")
    suite = options.suite
    if suite is None and not options.attacks:
        suite = "quick" if subject.gives == "gradients" else "black_box"
    configured, chosen = battery(suite, options.attacks)
    sources = [probed(_source(source, split, options), split, device) for source in options.sources]
    kinds = {Images, TrainingImages, *([Sources] if sources else [])}
    stochastic = behaviour.stochastic and options.protocol == "adaptive"
    task = target.task(threat, split, kinds, sources, stochastic=stochastic)
    able, left_out = _able(configured, options.attacks, task)
    for each in able:
        each.check_lengths(threat, split.shape)
    hidden = [(each.name, each.hidden) for each in (target.subject, *(source.subject for source in sources))]
    _say_hidden(hidden + [(each.name, each.hidden) for each in able])
    needs = {kind for attack in able for kind in attack.needs}
    _say_unused(options, target, split, needs)
    return Evaluation(
        subject,
        split,
        threat,
        able,
        images=_pool(source, options, POOL) if Images in needs else None,
        sources=[source.subject for source in sources],
        sources_draw=any(source.behaviour.stochastic for source in sources),
        training=_pool(source, options, TRAINING) if TrainingImages in needs else None,
        readings=chosen.readings,
        seed=options.seed,
        device=device,
        batch_size=options.batch_size or BATCH_SIZE[device],
        precision=options.precision,
        n=options.n,
        mode=options.mode or chosen.mode,
        behaviour=behaviour,
        draws=options.draws or DRAWS,
        protocol=options.protocol,
        left_out=left_out,
        classes=target.classes,
        data_root=options.data_root,
    )


def plan_verification(
    model: Evaluable, adversarial: Adversarial, options: SubjectOptions, *, eight_bit: bool = False
) -> Callable[[], Verification]:
    """Everything `verify` is about to use, as a call that does it."""
    subject, split, threat, _ = _subject(model, options)
    given = verification.read(adversarial, split)
    device = resolve_device(options.device)
    behaviour = probed(subject, given.originals, device).behaviour
    return partial(verification.verify, subject, given, threat, behaviour=behaviour, device=device, eight_bit=eight_bit)


def _subject(model: Evaluable, options: SubjectOptions) -> tuple[Subject, datasets.Split, ThreatModel, DataSource]:
    """The model, its test images, the threat and what its data come from; what is not given the checkpoint says."""
    card = _card(model, options.arch)
    source = (card.dataset if card else DATASET) if options.dataset is None else options.dataset
    split = options.load(source, "test")
    subject = load_model(
        model,
        arch=options.arch,
        shape=split.shape,
        classes=split.classes,
        mean=options.mean,
        std=options.std,
        weights=options.weights,
        download=options.download,
    )
    default = _default_threat(subject, split.word, split.shape)
    threat = default.with_(options.norm, options.eps, split.shape)
    if options.norm is None and threat.norm != "linf":
        _say(f"the norm is {threat.norm}, that of {default.whose}", level=4)
    return subject, split, threat, source


def _source(source: str | Path | nn.Module | Subject, split: datasets.Split, options: SubjectOptions) -> Subject:
    """A model to transfer attacks from, whose key is that of the model as it is now."""
    return load_model(source, shape=split.shape, classes=split.classes, download=options.download)


def _card(model: Evaluable, arch: str | None) -> Card | None:
    """What a checkpoint of ours says of itself."""
    if isinstance(model, Subject):
        return model.card
    return card_of(model, arch) if isinstance(model, str | Path) else None


def _default_threat(subject: Subject, dataset: str, shape: Sequence[int]) -> DefaultThreat:
    """The checkpoint's, which is for the data that it is for; else the data set's."""
    card = subject.card
    if card is None:
        return recipe.default_threat(dataset, shape)
    if datasets.called(dataset, "test") == datasets.called(card.dataset, "test"):
        return DefaultThreat(card.norm, card.eps, subject.name)
    return DefaultThreat(card.norm, None, f"{subject.name}, made for {card.dataset}, on {dataset}")


def _say(text: str, level: int = 3) -> None:
    """Tells the caller of a plan, so many calls up, what is done otherwise than its words suggest."""
    warnings.warn(text, Notice, stacklevel=level)


def _say_unused(options: EvaluationOptions, target: "Probed", split: datasets.Split, needs: Collection[type]) -> None:
    """Says which options change nothing, or less than they ask for."""
    if options.sources and Sources not in needs:
        _say("source models were given, but no attack of the battery transfers from them", level=4)
    if options.draws is not None and not target.behaviour.stochastic:
        text = f"{options.draws} draws were asked for, but {target.subject.name} gives the same each time"
        _say(f"{text}: one pass is taken", level=4)
    if 0 < len(split.names) < target.classes:
        between = f"{split.names[0]} is 0 and {split.names[-1]} is {len(split.names) - 1}"
        text = f"{split.name} has {len(split.names)} classes, numbered in sorted order: {between}"
        _say(f"{text}; {target.subject.name} has {target.classes}", level=4)
    if options.n is not None and options.n > len(split):
        _say(f"{options.n} examples were asked for, {split.name} has {len(split)}: these are taken", level=4)


def _say_hidden(hidden: Sequence[tuple[str, Sequence[str]]]) -> None:
    """Says of what no row is reused, and why."""
    for name, things in hidden:
        if things:
            warnings.warn(
                f"it cannot be told what decides the numbers of {name}, so that its rows are not reused in another "
                f"run: {'; '.join(things[:3])}{' and more' if len(things) > 3 else ''}",
                NotReused,
                stacklevel=4,
            )


@dataclass(frozen=True)
class Probed:
    """A model with what a few passes tell of it."""

    subject: Subject
    behaviour: Behaviour
    classes: int

    def task(
        self,
        threat: ThreatModel,
        split: datasets.Split,
        resources: set[type],
        sources: "Sequence[Probed]" = (),
        *,
        stochastic: bool | None = None,
    ) -> Task:
        """What attacks that are given these kinds of resources are run on; `stochastic`: whether the attacker sees a
        stochastic model, by default whether it is one."""
        return Task(
            threat.norm,
            self.subject.gives,
            self.classes,
            tuple(split.shape),
            shown_layers(self.subject.model),
            resources,
            self.behaviour.stochastic if stochastic is None else stochastic,
            [source.task(threat, split, resources - {Sources}) for source in sources],
        )


def probed(
    subject: Subject, split: datasets.Split, device: str | torch.device, protocol: EvaluationProtocol = "adaptive"
) -> Probed:
    """A module through which no gradient comes gives its scores alone."""
    subject.key()  # as it is before any pass, of which a model may keep something
    classifier = Classifier(subject.model, device)
    try:
        classes = check_model(classifier, split, subject.name, subject.card)
    except NoLogits as error:
        path = path_of_logits(error.output, error.images, split.classes, subject.name)
        return probed(replace(subject, model=LogitsOf(subject.model, path)), split, device, protocol)
    x = split.floats(slice(IMAGES)).to(device)
    undefended = subject.undefended if protocol == "static" else None
    seen = Classifier(undefended, device) if undefended is not None else classifier
    with answering(subject.name, "the first images"):
        behaviour = observe(classifier, x)
        if subject.gives == "gradients" and not differentiable(seen, x):
            subject = replace(subject, gives="scores")
    return Probed(subject, behaviour, classes)


def _able(chosen: Sequence[Attack], named: Sequence[str], task: Task) -> tuple[list[Attack], dict[str, str]]:
    """The attacks that can be run, without those of their parts that cannot; and of a suite's others and of these parts
    the reasons. One that was named must be able to run."""
    obstacles = {attack.name: attack.obstacle(task) for attack in chosen}
    for name in named:
        configured = attack(name).name
        if obstacle := obstacles[configured]:
            raise UserError(f"{configured} cannot be run: {obstacle}")
    left_out = {name: obstacle for name, obstacle in obstacles.items() if obstacle}
    able = [attack for attack in chosen if attack.name not in left_out]
    if not able:
        raise UserError("; ".join(f"{name} cannot be run: {obstacle}" for name, obstacle in left_out.items()))
    for each in able:
        left_out |= {f"{part} of {each.name}": why for part, why in each.unfit(task).items()}
    return [each.fitted(task) for each in able], left_out


def _pool(source: DataSource, options: SubjectOptions, size: int) -> datasets.Split:
    """About `size` training images from all over the set, or test images where it has no others."""
    try:
        split = options.load(source, "train")
    except UserError:
        split = options.load(source, "test")
    return split.take(slice(None, None, max(len(split) // size, 1)))
