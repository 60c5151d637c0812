"""Subjects from files: checkpoints of ours, weights that others saved, and TorchScript archives."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from robench.evaluation.said import Said
from robench.evaluation.subject import Subject
from robench.models import ARCHITECTURES, architecture, carrier, checkpoint, make_by, outline_of
from robench.models.files.candidates import candidates
from robench.models.files.contents import contents_of
from robench.models.files.formats import kind_of
from robench.models.files.outline import LIKELY
from robench.models.files.weights import Wanted, fitted, load_exactly
from robench.models.users_code import was_named
from robench.specs.choices import TORCHSCRIPT
from robench.threat import ThreatModel
from robench.training import recipe
from robench.training.defense import MODEL
from robench.utils import registry
from robench.utils.errors import UserError


def from_file(path: Path, said: Said, shape: Sequence[int] | None) -> Subject:
    if said.arch == TORCHSCRIPT:
        return _from_script(path, said)
    document = checkpoint.read(path)
    card = checkpoint.card_of(document, str(path))
    return _of_others(path, document, said, shape) if card is None else _of_ours(path, document, card, said)


def _from_script(path: Path, said: Said) -> Subject:
    """A TorchScript archive, whose program is run."""
    replace(said, arch=None).refuse_of_file(f"the TorchScript archive {path}")
    if kind_of(path) != TORCHSCRIPT:
        raise UserError(f"{path} is no TorchScript archive; name its architecture with --arch")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # TorchScript is on its way out, which its user cannot help
            model = torch.jit.load(path, map_location="cpu")  # type: ignore[no-untyped-call]
    except Exception as error:  # of many kinds for a damaged file, or one of another version
        reason = (str(error).strip().splitlines() or [""])[0]
        raise UserError(f"{path} cannot be loaded as TorchScript ({reason}); was its download cut?") from None
    subject = Subject(model.eval(), path.stem, TORCHSCRIPT)
    return subject if said.mean is None or said.std is None else subject.behind(said.mean, said.std)


def _of_others(path: Path, document: Any, said: Said, shape: Sequence[int] | None) -> Subject:
    """From a file of weights that somebody else saved."""
    arch = said.arch
    if arch is None:
        fitting = [name for name in ARCHITECTURES if _is_named_as(document, name, shape)]
        hint = f", as {' or '.join(fitting)}, whose weights are named so" if fitting else ""
        raise UserError(
            f'{path} is a bare state dict; name its architecture with --arch{hint}, or as "{path};arch=NAME" (and '
            f";mean=...;std=... where it has them), or give a factory PATH.py:FUNCTION"
        )
    if shape is None:
        raise UserError(f"{path} is a bare state dict; give the shape of its images")
    kind = architecture(arch)
    outline = outline_of(kind, arch, shape)
    found = fitted(document, str(path), Wanted(outline, key=said.weights, mean=said.mean, std=said.std))
    if found.classes is not None and found.classes < 2:
        raise UserError(
            f"the weights in {path} end in {found.classes} output, and not in 2 classes or more; give a factory "
            "PATH.py:FUNCTION that makes logits [0, z] of one output z"
        )
    stored = found.normalisation
    mean, std = (stored.mean, stored.std) if stored else (said.mean or (0.0,), said.std or (1.0,))
    network = make_by(kind, arch, shape, found.classes or LIKELY, mean=mean, std=std)
    carrier(network).load_state_dict(found.state, strict=False)
    read = [f"its input is normalised as {path} says: {stored.word}"] if stored else []
    return Subject(network.eval(), path.stem, arch, notices=[*found.notices, *read])


def _is_named_as(document: Any, arch: str, shape: Sequence[int] | None) -> bool:
    """Whether weights with all the names of a network's are there."""
    try:
        return bool(
            candidates(contents_of(document), outline_of(ARCHITECTURES[arch], arch, shape or (3, 32, 32)).kinds)
        )
    except UserError:  # the images are too small for it
        return False


def _of_ours(path: Path, document: Any, card: checkpoint.Card, said: Said) -> Subject:
    """From a checkpoint of ours, behind the test-time transform of its defense, if that has one."""
    if said.arch is None and registry.users_file(card.arch) and not was_named(card.arch):
        raise UserError(f"{path} is of the network in {card.arch}; to have that code run, name it with --arch")
    arch = said.arch or card.arch
    kind = architecture(arch)
    wanted = Wanted(outline_of(kind, arch, card.shape), card.classes, said.weights)
    found = fitted(checkpoint.weights_of(document, str(path)), str(path), wanted)
    network = make_by(kind, arch, card.shape, card.classes, mean=said.mean or card.mean, std=said.std or card.std)
    carrier(network).load_state_dict(found.state, strict=False)
    notices = found.notices
    if said.mean is not None and said.std is not None and (list(said.mean), list(said.std)) != (card.mean, card.std):
        notices.append(f"{path} says its own normalisation, in whose place --mean and --std were taken")
    subject = Subject(network.eval(), path.stem, arch, card, notices=notices)
    if card.defense.endswith(".py"):
        notices.append(f"{card.defense} trained it; a test-time transform that it may have is not applied")
        return subject
    return _deployed(subject, checkpoint.helpers_of(document, str(path)))


def _deployed(subject: Subject, helpers: Mapping[str, Mapping[str, Tensor]]) -> Subject:
    """The subject behind the test-time transform of the defense that trained it, if that has one; `helpers` are the
    weights of the networks trained beside it."""
    card = subject.card
    assert card is not None
    if card.defense not in recipe.names():  # of a version that had others
        return subject
    try:
        model = _behind_defense(subject, card, helpers)
    except UserError:
        raise
    except Exception as error:  # of settings that the defense itself would never have
        settings = card.recipe.get("settings", {})
        raise UserError(
            f"{subject.name} says settings of {card.defense} that cannot be: {settings} ({error})"
        ) from None
    if model is subject.model:
        return subject
    notices = [*subject.notices, f"it is deployed behind the test-time transform of {card.defense}"]
    return replace(subject, model=model, undefended=subject.model, notices=notices)


def _behind_defense(subject: Subject, card: checkpoint.Card, helpers: Mapping[str, Mapping[str, Tensor]]) -> nn.Module:
    """What classifies at test time, made as the card says."""
    defense = recipe.defense_of(card.defense, card.recipe.get("settings", {}))
    players = {MODEL: subject.model}
    for name, helper in defense.helpers(subject.model, card.shape, card.classes).items():
        if name in helpers:
            load_exactly(helper.network, helpers[name], f"the {name} of {subject.name}")
            players[name] = helper.network
    return defense.deploy(players, ThreatModel.of(card.norm, card.eps)).eval()
