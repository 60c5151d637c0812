"""What a file holds beside the weights that are taken: what means nothing, what is told, and what is refused."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from robench.models.files.candidates import Candidate
from robench.models.files.contents import Contents, Path, word
from robench.utils.errors import UserError

COUNTERS = ("num_batches_tracked", "total_ops", "total_params", "n_averaged", "epoch", "step")
"""What torch and tools that count operations leave among weights."""

UNUSED = "sub_block1"
"""A block of the public TRADES code that no image goes through."""


@dataclass(frozen=True)
class Beside:
    """The tensors of the file `where` that are neither of the candidate `one` nor `used` otherwise."""

    contents: Contents
    one: Candidate
    used: Collection[Path]
    where: str

    @property
    def beyond(self) -> list[Path]:
        """Under the same prefix, in what holds the weights: of a larger network."""
        return [path for path in self._strange if path in self.one.beyond]

    def refuse_parts(self) -> None:
        """Raises UserError for what may be part of the model: more in what holds the weights, or a list of tensors of
        all their shapes."""
        remedy = f"say --weights {self.one.word} to leave it out"
        near = [path for path in self._strange if self.contents.holder[path] in self.one.holders]
        if near:
            raise UserError(
                f"{self.where} holds {listed(map(word, near))} beside the weights under {self.one.word}, which may be "
                f"part of the model; {remedy}, or give a factory FILE.py:FUNCTION of the whole"
            )
        if (unnamed := self._unnamed()) is not None:
            raise UserError(
                f"{self.where} holds tensors of the shapes of all weights under {word(unnamed)}, as an average keeps "
                f"them, without their names; {remedy}"
            )

    def notices(self) -> list[str]:
        """What is not used, in words; batch norm's own counters are not worth any."""
        near = [path for path in self._counters if self.contents.holder[path] in self.one.holders]
        counters = [path for path in near if path[-1] != COUNTERS[0]]
        strange = [path for path in self._strange if path not in self.one.beyond]
        return [
            *([f"unused weights in {self.where} were dropped ({UNUSED})"] if self._unused else []),
            *([f"counters in {self.where} were ignored: {listed(map(word, counters))}"] if counters else []),
            *([f"beside the weights {self.where} holds what is not used: {_groups(strange)}"] if strange else []),
        ]

    @cached_property
    def _rest(self) -> list[Path]:
        return [path for path in self.contents.tensors if path not in self.used and path not in self.one.holder]

    @cached_property
    def _unused(self) -> list[Path]:
        return [path for path in self._rest if UNUSED in path]

    @cached_property
    def _counters(self) -> list[Path]:
        return [path for path in self._rest if _is_counter(path, self.contents.tensors[path])]

    @cached_property
    def _strange(self) -> list[Path]:
        known = {*self._unused, *self._counters}
        return [path for path in self._rest if path not in known]

    def _unnamed(self) -> Path | None:
        """What holds a tensor of the shape of each matrix and filter."""
        shapes = [tuple(weight.shape) for weight in self.one.weights.values() if weight.dim() > 1]
        there: dict[Path, list[tuple[int, ...]]] = {}
        for path in self._strange:
            there.setdefault(self.contents.holder[path], []).append(tuple(self.contents.tensors[path].shape))
        has_all = (
            holder
            for holder, found in there.items()
            if shapes and all(found.count(shape) >= shapes.count(shape) for shape in set(shapes))
        )
        return next(has_all, None)


def listed(words: Iterable[str]) -> str:
    """The first three."""
    each = list(words)
    return f"{', '.join(each[:3])}{' and others' if len(each) > 3 else ''}"


def _is_counter(path: Path, tensor: Tensor) -> bool:
    is_whole = not (tensor.is_floating_point() or tensor.is_complex()) and tensor.dim() == 0
    return is_whole or path[-1] in COUNTERS


def _groups(paths: Sequence[Path]) -> str:
    """The first key of each, with how many tensors are under it."""
    firsts = [path[0] for path in paths]
    counts = {first: firsts.count(first) for first in dict.fromkeys(firsts)}
    return listed(f"{key} ({count} tensor{'s' if count > 1 else ''})" for key, count in counts.items())
