"""The weights of a network out of whatever a file holds: found by their names, checked, and told what was left."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from robench.models.files.beside import COUNTERS, Beside, listed
from robench.models.files.candidates import Candidate, candidates, nearest
from robench.models.files.contents import Contents, contents_of, word
from robench.models.files.normalisation import Normalisation, chosen, pairs_in
from robench.models.files.outline import LIKELY, Axis, Outline, Sizes
from robench.models.files.values import cast, check_values
from robench.utils.errors import UserError


@dataclass(frozen=True)
class Wanted:
    """What a file's weights are to be: those of `outline`, for so many classes or as many as its head has.

    key: which of several in the file; mean, std: what is said of the normalisation; new_head: the head may be of
    another number of classes, or not there."""

    outline: Outline
    classes: int | None = None
    key: str | None = None
    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None
    new_head: bool = False

    def classes_of(self, one: Candidate) -> int | None:
        """Those said, else those that the head of the weights is for; None where it does not say, or contradicts
        itself."""
        axes = {name: axis for name, axis in self.outline.head.items() if name in one.weights}
        counts = {axis.count_of(one.weights[name].shape) for name, axis in axes.items()}
        return self.classes or (counts.pop() if len(counts) == 1 else None)

    def misfits(self, one: Candidate) -> list[str]:
        """The names of weights of other shapes than the network's."""
        sizes = self.outline.sizes(self.classes_of(one) or LIKELY)
        free = self.outline.head if self.new_head else {}
        wrong = [name for name, weight in one.weights.items() if tuple(weight.shape) != sizes[name]]
        return [name for name in wrong if name not in free and not name.endswith(COUNTERS)]

    def other_head(self, one: Candidate) -> list[str]:
        """The names of the head where that is for another number of classes, or not whole."""
        head = self.outline.head
        if not self.new_head or self.classes is None:
            return []
        sizes = self.outline.sizes(self.classes)
        shapes = {name: tuple(one.weights[name].shape) for name in head if name in one.weights}
        return [] if all(shapes.get(name) == sizes[name] for name in head) else list(head)


@dataclass(frozen=True)
class Fitted:
    """`state`: the weights by the network's names, of its kind of floats; `new_head`: the names of a head that did not
    fit and was left out."""

    state: dict[str, Tensor]
    classes: int | None
    normalisation: Normalisation | None
    notices: list[str] = field(default_factory=list)
    new_head: list[str] = field(default_factory=list)


def fitted(document: Any, where: str, wanted: Wanted) -> Fitted:
    """The weights in what the file `where` holds.

    Raises UserError, one sentence, where none fit, several do that differ, or something beside them may be part of the
    model."""
    contents, outline = contents_of(document), wanted.outline
    if not contents.tensors:
        raise UserError(f"expected a state dict of tensors in {where}, found none")
    found = candidates(contents, outline.kinds, outline.head if wanted.new_head else ())
    if not found:
        raise _other_architecture(contents, where, outline)
    fitting = [each for each in found if not wanted.misfits(each)]
    if not fitting:
        raise _misfit(found[0], where, wanted)
    one = _one(fitting, where, wanted.key)
    pairs = pairs_in(contents, one.holders, one.holder, outline.shape[0])
    used = {path for each in fitting for path in each.holder} | {path for pair in pairs for path in pair.paths}
    beside = Beside(contents, one, used, where)
    if beside.beyond:
        raise _another(where, outline, f"has, beyond the architecture, {listed(map(word, beside.beyond))}")
    if wanted.key is None:
        beside.refuse_parts()
    new_head = wanted.other_head(one)
    kept = {name: weight for name, weight in one.weights.items() if name not in new_head}
    check_values(kept, outline.kinds, where)
    state, kinds = cast(kept, outline.kinds)
    notices = [f"weights in {where} are {', '.join(kinds)}, and were taken as float32"] if kinds else []
    normalisation = chosen(pairs, wanted.mean, wanted.std, where)
    return Fitted(state, wanted.classes_of(one), normalisation, [*beside.notices(), *notices], new_head)


def load_exactly(network: nn.Module, state: Mapping[str, Tensor], where: str) -> None:
    """Puts the weights that `where` holds into a network that is there."""
    shape = next((tuple(weight.shape) for weight in network.parameters()), ())
    outline = Outline(lambda _, __: network, shape, type(network).__name__)
    network.load_state_dict(fitted(state, where, Wanted(outline)).state, strict=False)


def _one(fitting: Sequence[Candidate], where: str, key: str | None) -> Candidate:
    """The weights that `key` names, or the only ones that there are; the same twice are one."""
    named = [each for each in fitting if key is None or each.is_under(key)]
    several = [each for at, each in enumerate(named) if not any(each.equals(other) for other in named[:at])]
    if not several:
        raise UserError(f"no weights under {key!r} in {where} fit; those that do are under {_words(fitting)}")
    if len(several) > 1:
        raise UserError(f"several weights in {where} fit, under {_words(several)}; choose with --weights")
    return several[0]


def _words(several: Sequence[Candidate]) -> str:
    return listed(each.word for each in several)


def _other_architecture(contents: Contents, where: str, outline: Outline) -> UserError:
    near = nearest(contents, outline.kinds)
    if near is None:
        return _another(where, outline, f"has no {listed(outline.kinds)} but {listed(map(word, contents.tensors))}")
    missing = [name for name in outline.kinds if name not in near.weights and not name.endswith(COUNTERS[0])]
    return _another(where, outline, f"lacks {listed(missing)}{f' under {near.word}' if near.prefix else ''}")


def _misfit(one: Candidate, where: str, wanted: Wanted) -> UserError:
    """Says what the weights are for, where that is another number of classes or channels; else their shapes."""
    outline, wrong = wanted.outline, wanted.misfits(one)
    here = outline.sizes(wanted.classes_of(one) or LIKELY)
    if wanted.classes and _accounts(outline.head, wrong, one, here):
        return UserError(
            f"the weights in {where} are for {_count(wrong[0], one, outline.head)} classes, not for {wanted.classes}"
        )
    if _accounts(outline.stem, wrong, one, here):
        channels = _count(wrong[0], one, outline.stem)
        return UserError(f"the weights in {where} take images of {channels} channels, not of {outline.shape[0]}")
    size = "x".join(map(str, outline.shape))
    shapes = f"{wrong[0]} is {tuple(one.weights[wrong[0]].shape)}, and for images of {size} {here[wrong[0]]}"
    return _another(where, outline, f"misshapes {listed(wrong)} ({shapes})")


def _accounts(axes: Mapping[str, Axis], wrong: Sequence[str], one: Candidate, here: Sizes) -> bool:
    """Whether the number that these dimensions tell is all that is wrong."""
    return all(name in axes and axes[name].accounts_for(one.weights[name].shape, here[name]) for name in wrong)


def _count(name: str, one: Candidate, axes: Mapping[str, Axis]) -> str:
    return str(axes[name].count_of(one.weights[name].shape) or "another number of")


def _another(where: str, outline: Outline, problem: str) -> UserError:
    return UserError(
        f"the weights in {where} are of another architecture than {outline.name}: it {problem}; name the right one "
        "with --arch"
    )
