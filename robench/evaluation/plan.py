"""From the words of a command to everything it is about to use, checked before anything is run."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, cast, get_args

import torch
from torch import nn

from robench.data import datasets
from robench.data.resize import common
from robench.evaluation import verification
from robench.evaluation.array_model import ArrayFunction, ArrayModel
from robench.evaluation.evaluation import DRAWS, Evaluation, Protocol
from robench.evaluation.model_checks import IMAGES, Behaviour, check_model, differentiable, observe
from robench.evaluation.target import NotReused, Subject, described, is_weights_file, load_model
from robench.evaluation.verification import Verification
from robench.models import checkpoint
from robench.models.checkpoint import Card
from robench.search.attack import Attack
from robench.search.catalog import attack, battery
from robench.search.classifier import Classifier, shown_layers
from robench.search.declaration import Task
from robench.search.fast.tuning import Precision, check_precision
from robench.search.resources import Images, Sources, TrainingImages
from robench.specs.suite import Mode
from robench.threat import Norm, ThreatModel
from robench.training import recipe
from robench.training.recipe import DefaultThreat
from robench.training.training_plan import Plan
from robench.utils.errors import Notice, UserError, unknown
from robench.utils.sizes import Size

DATASET = "digits"
POOL = 1000
BATCH_SIZE = {"cpu": 128, "cuda": 512}
SEEDS = 2**31
"""There are so many: what every library's generator takes, with room for restarts."""
TRAINING = 10_000
"""Images on which an attack may train; about as many, where the set's size is no multiple."""


def plan_evaluation(
    model: str | Path | nn.Module | Subject | ArrayFunction,
    *,
    suite: str | None = None,
    attacks: Sequence[str] = (),
    dataset: str | None = None,
    data_root: Path | str = "data",
    download: bool = False,
    eps: Size | None = None,
    norm: str | None = None,
    arch: str | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    seed: int = 0,
    device: str | None = None,
    batch_size: int | None = None,
    precision: Precision = "auto",
    n: int | None = None,
    mode: Mode | None = None,
    sources: Sequence[str | Path | nn.Module | Subject] = (),
    protocol: Protocol = "adaptive",
    draws: int | None = None,
) -> Evaluation:
    """Everything `evaluate` is about to use. What is not given comes from the checkpoint, the mode from the suite, else
    from the defaults."""
    for kind, word, known in (("mode", mode, get_args(Mode)), ("protocol", protocol, get_args(Protocol))):
        if word is not None and word not in known:
            raise unknown(kind, word, known)
    check_precision(precision)
    if batch_size is not None and batch_size < 1:
        raise UserError(f"expected a batch size of at least 1, got {batch_size}")
    if seed < 0:
        raise UserError(f"expected a seed of at least 0, got {seed}")
    if seed >= SEEDS:
        raise UserError(f"expected a seed below {SEEDS}, got {seed}")
    if draws is not None and draws < 1:
        raise UserError(f"expected at least 1 draw, got {draws}")
    subject, split, threat, dataset = _subject(
        model, dataset, data_root, download, eps=eps, norm=norm, arch=arch, mean=mean, std=std
    )
    if protocol == "static" and subject.bare is None:
        raise UserError(f"the protocol static needs a test-time transform to leave out; {subject.name} has none")
    device = resolve_device(device)
    target = probed(subject, split, device, protocol)
    subject, behaviour = target.subject, target.behaviour
    if subject.gives == "scores" and not isinstance(subject.model, ArrayModel):
        _say(f"{subject.name} gives no gradient, for no path leads from its logits back to the image: scores alone")
    if suite is None and not attacks:
        suite = "quick" if subject.gives == "gradients" else "black_box"
    configured, chosen = battery(suite, attacks)
    lent = [
        probed(source.afresh() if isinstance(source, Subject) else load_model(source, shape=split.shape), split, device)
        for source in sources
    ]
    kinds = {Images, TrainingImages, *([Sources] if lent else [])}
    task = target.task(threat, split, kinds, lent, stochastic=behaviour.stochastic and protocol == "adaptive")
    able, left_out = _able(configured, attacks, task)
    for each in able:
        each.check_lengths(threat, split.shape)
    hidden = [(each.name, each.hidden) for each in (target.subject, *(source.subject for source in lent))]
    _say_hidden(hidden + [(each.name, each.hidden) for each in able])
    needs = {kind for attack in able for kind in attack.needs}
    if lent and Sources not in needs:
        _say("source models were given, but no attack of the battery transfers from them")
    if draws is not None and not behaviour.stochastic:
        _say(f"{draws} draws were asked for, but {subject.name} gives the same each time: one pass is taken")
    if n is not None and n > len(split):
        _say(f"{n} examples were asked for, {split.name} has {len(split)}: these are taken")
    return Evaluation(
        subject,
        split,
        threat,
        able,
        images=_pool(dataset, data_root, download, POOL) if Images in needs else None,
        sources=[source.subject for source in lent],
        sources_draw=any(source.behaviour.stochastic for source in lent),
        training=_pool(dataset, data_root, download, TRAINING) if TrainingImages in needs else None,
        readings=chosen.readings,
        seed=seed,
        device=device,
        batch_size=batch_size or BATCH_SIZE[device],
        precision=precision,
        n=n,
        mode=mode or chosen.mode,
        behaviour=behaviour,
        draws=draws or DRAWS,
        protocol=protocol,
        left_out=left_out,
        classes=target.classes,
        data_root=data_root,
    )


def plan_verification(
    model: str | Path | nn.Module | Subject | ArrayFunction,
    adversarial: str | Path,
    *,
    dataset: str | None = None,
    data_root: Path | str = "data",
    download: bool = False,
    eps: Size | None = None,
    norm: str | None = None,
    arch: str | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    device: str | None = None,
    eight_bit: bool = False,
) -> Callable[[], Verification]:
    """Everything `verify` is about to use, as a call that does it."""
    subject, split, threat, _ = _subject(
        model, dataset, data_root, download, eps=eps, norm=norm, arch=arch, mean=mean, std=std
    )
    given = verification.read(adversarial, split)
    where = resolve_device(device)
    behaviour = probed(subject, given.originals, where).behaviour
    return partial(verification.verify, subject, given, threat, behaviour=behaviour, device=where, eight_bit=eight_bit)


def _subject(
    model: str | Path | nn.Module | Subject | ArrayFunction,
    dataset: str | None,
    data_root: Path | str,
    download: bool,
    *,
    eps: Size | None,
    norm: str | None,
    arch: str | None,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
) -> tuple[Subject, datasets.Split, ThreatModel, str]:
    """The model, its test images, the threat and the data set's name; what is not given comes from the checkpoint."""
    card = _card(model)
    dataset = dataset or (card.dataset if card else DATASET)
    split = datasets.load(dataset, "test", root=data_root, download=download, stream=True)
    if isinstance(model, Subject):
        subject = model.afresh()
    else:
        subject = load_model(model, arch=arch, shape=split.shape, classes=split.classes, mean=mean, std=std)
    default = _default_threat(subject, dataset, split.shape)
    threat = default.with_(norm, eps, split.shape)
    if norm is None and threat.norm != "linf":
        _say(f"the norm is {threat.norm}, that of {default.whose}", level=4)
    return subject, split, threat, dataset


def _card(model: str | Path | nn.Module | Subject | ArrayFunction) -> Card | None:
    """What a checkpoint of ours says of itself."""
    if isinstance(model, Subject):
        return model.card
    if not is_weights_file(model):
        return None
    return checkpoint.card_of(checkpoint.read(Path(described(str(model))[0])))


def _default_threat(subject: Subject, dataset: str, shape: Sequence[int]) -> DefaultThreat:
    """The checkpoint's, which is for the data that it is for; else the data set's."""
    card = subject.card
    if card is None:
        return recipe.default_threat(dataset, shape)
    if datasets.called(dataset, "test") == datasets.called(card.dataset, "test"):
        return DefaultThreat(cast(Norm, card.norm), card.eps, subject.name)
    return DefaultThreat(cast(Norm, card.norm), None, f"{subject.name}, made for {card.dataset}, on {dataset}")


def _say(text: str, level: int = 3) -> None:
    """Tells the caller of a plan, so many calls up, what is done otherwise than its words suggest."""
    warnings.warn(text, Notice, stacklevel=level)


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
    subject: Subject, split: datasets.Split, device: str | torch.device, protocol: Protocol = "adaptive"
) -> Probed:
    """A module through which no gradient comes gives its scores alone."""
    subject.key()  # as it is before any pass, of which a model may keep something
    classifier = Classifier(subject.model, device)
    classes = check_model(classifier, split, subject.name)
    x = split.floats(slice(IMAGES)).to(device)
    behaviour = observe(classifier, x)
    seen = classifier if protocol == "adaptive" or subject.bare is None else Classifier(subject.bare, device)
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


def _pool(dataset: str, data_root: Path | str, download: bool, size: int) -> datasets.Split:
    """About `size` training images from all over the set, or test images where it has no others."""
    try:
        split = datasets.load(dataset, "train", root=data_root, download=download, stream=True)
    except UserError:
        split = datasets.load(dataset, "test", root=data_root, download=download, stream=True)
    return split.take(slice(None, None, max(len(split) // size, 1)))


def plan_training(
    defense: str,
    *,
    dataset: str = DATASET,
    data_root: Path | str = "data",
    download: bool = False,
    arch: str | None = None,
    eps: Size | None = None,
    norm: str | None = None,
    epochs: int | None = None,
    limit: int | None = None,
    settings: Mapping[str, Any] | None = None,
    init: Path | str | None = None,
    seed: int = 0,
    precision: str = "float32",
    labels: int | None = None,
    target: str | None = None,
) -> Plan:
    """Everything `train` is about to use: the recipe's settings for the data set, changed by what is given."""
    named = {"arch": arch, "eps": eps, "norm": norm, "epochs": epochs}
    named |= {"labels": labels, "target_domain": target}
    changes = {**(settings or {}), **{name: value for name, value in named.items() if value is not None}}
    if defense not in recipe.names() and not defense.endswith(".py"):
        recipe.resolve(defense, dataset, (), {})  # says so before the data is read
    split = datasets.load(dataset, "train", root=data_root, download=download)
    weights = None
    if init is not None:
        weights = checkpoint.state_dict_of(checkpoint.read(Path(init)), str(init))
    resolved = recipe.resolve(defense, dataset, split.shape, changes)
    domain = None
    if resolved.setup.target_domain is not None:
        domain = datasets.load(resolved.setup.target_domain, "train", root=data_root, download=download)
        shape = common(split.shape, domain.shape)
        split, domain = split.shaped(shape), domain.shaped(shape)
    plan = Plan(resolved, dataset, split, limit, seed, precision, weights, domain)
    there = len(split) - resolved.setup.holdout
    if limit is not None and limit > there:
        _say(f"a limit of {limit} images was asked for, {dataset} has {there} to train on: these are taken")
    return plan


def checkpoint_path(plan: Plan, results: Path | str) -> Path:
    return Path(results) / "checkpoints" / f"{plan.name}.pt"


def resolve_device(device: str | None) -> str:
    """The device asked for; by default CUDA where there is one."""
    if device is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device not in ("cpu", "cuda"):
        raise UserError(f"expected the device cpu or cuda (CUDA_VISIBLE_DEVICES chooses among several), got {device!r}")
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("the device cuda is not available here; cpu is")
    return device
