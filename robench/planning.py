"""From the words of a command to everything it is about to use, checked before anything is run."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, get_args

import torch
from torch import nn

from robench import checkpoint, data, recipe, verification
from robench.arrays import ArrayFunction
from robench.battery import Attack, Mode, attack, battery
from robench.behaviour import IMAGES, Behaviour, check_model, observe
from robench.classifier import Classifier, shown_layers
from robench.errors import UserError, unknown
from robench.evaluation import DRAWS, Evaluation, Protocol
from robench.resize import common
from robench.resources import Images, Sources, TrainingImages
from robench.subject import NotReused, Subject, load_model
from robench.threat import Size, ThreatModel
from robench.training import Plan
from robench.tuning import Precision, check_precision
from robench.verification import Verification

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
    draws: int = DRAWS,
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
    if draws < 1:
        raise UserError(f"expected at least 1 draw, got {draws}")
    subject, split, threat, dataset = _subject(
        model, dataset, data_root, download, eps=eps, norm=norm, arch=arch, mean=mean, std=std
    )
    if suite is None and not attacks:
        suite = "quick" if subject.gives == "gradients" else "black_box"
    configured, chosen = battery(suite, attacks)
    lent = [
        source.afresh()
        if isinstance(source, Subject)
        else load_model(source, arch=arch, shape=split.shape, mean=mean, std=std)
        for source in sources
    ]
    for each in (subject, *lent):
        each.key()  # as it is before any pass, of which a model may keep something
    device = resolve_device(device)
    behaviours = [_behaviour(source, split, device) for source in lent]
    behaviour = _behaviour(subject, split, device)
    if protocol == "static" and subject.bare is None:
        raise UserError(f"the protocol static needs a test-time transform to leave out; {subject.name} has none")
    able, left_out = _able(configured, attacks, threat, subject, {Images, TrainingImages, *([Sources] if lent else [])})
    needs = {kind for attack in able for kind in attack.needs}
    _say_hidden([(each.name, each.hidden) for each in (subject, *lent)] + [(each.name, each.hidden) for each in able])
    return Evaluation(
        subject,
        split,
        threat,
        able,
        images=_pool(dataset, data_root, download, POOL) if Images in needs else None,
        sources=lent,
        sources_draw=any(behaviour.stochastic for behaviour in behaviours),
        training=_pool(dataset, data_root, download, TRAINING) if TrainingImages in needs else None,
        readings=chosen.readings,
        seed=seed,
        device=device,
        batch_size=batch_size or BATCH_SIZE[device],
        precision=precision,
        n=n,
        mode=mode or chosen.mode,
        behaviour=behaviour,
        draws=draws,
        protocol=protocol,
        left_out=left_out,
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
    behaviour = _behaviour(subject, given.originals, where)
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
) -> tuple[Subject, data.Split, ThreatModel, str]:
    """The model, its test images, the threat and the data set's name; what is not given comes from the checkpoint."""
    card = None
    if isinstance(model, str | Path) and not str(model).rpartition(":")[0].endswith(".py"):
        card = checkpoint.card_of(checkpoint.read(Path(model)))
    dataset = dataset or (card.dataset if card else DATASET)
    split = data.load(dataset, "test", root=data_root, download=download, stream=True)
    if isinstance(model, Subject):
        subject = model.afresh()
    else:
        subject = load_model(model, arch=arch, shape=split.shape, classes=split.classes, mean=mean, std=std)
    card = subject.card
    threat = ThreatModel.of(
        norm or (card.norm if card else "linf"),
        eps if eps is not None else card.eps if card else recipe.default_eps(dataset, split.shape),
    )
    return subject, split, threat, dataset


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


def _behaviour(subject: Subject, split: data.Split, device: str) -> Behaviour:
    """How the model behaves, after it has taken its first image."""
    classifier = Classifier(subject.model, device)
    check_model(classifier, split, subject.name)
    return observe(classifier, split.floats(slice(IMAGES)).to(device))


def _able(
    chosen: Sequence[Attack], named: Sequence[str], threat: ThreatModel, subject: Subject, lent: set[type]
) -> tuple[list[Attack], dict[str, str]]:
    """The attacks that can be run, and of a suite's others the reasons; one that was named must be."""
    shown = shown_layers(subject.model)
    obstacles = {attack.name: attack.obstacle(threat.norm, subject.gives, shown, lent) for attack in chosen}
    for name in named:
        configured = attack(name).name
        if obstacle := obstacles[configured]:
            raise UserError(f"{configured} cannot be run: {obstacle}")
    left_out = {name: obstacle for name, obstacle in obstacles.items() if obstacle}
    able = [attack for attack in chosen if attack.name not in left_out]
    if not able:
        raise UserError("; ".join(f"{name} cannot be run: {obstacle}" for name, obstacle in left_out.items()))
    return able, left_out


def _pool(dataset: str, data_root: Path | str, download: bool, size: int) -> data.Split:
    """About `size` training images from all over the set, or test images where it has no others."""
    try:
        split = data.load(dataset, "train", root=data_root, download=download, stream=True)
    except UserError:
        split = data.load(dataset, "test", root=data_root, download=download, stream=True)
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
    split = data.load(dataset, "train", root=data_root, download=download)
    weights = None
    if init is not None:
        weights = checkpoint.state_dict_of(checkpoint.read(Path(init)), str(init))
    resolved = recipe.resolve(defense, dataset, split.shape, changes)
    domain = None
    if resolved.setup.target_domain is not None:
        domain = data.load(resolved.setup.target_domain, "train", root=data_root, download=download)
        shape = common(split.shape, domain.shape)
        split, domain = split.shaped(shape), domain.shaped(shape)
    return Plan(resolved, dataset, split, limit, seed, precision, weights, domain)


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
