"""Where in a file a network's weights may lie: every prefix under which all of their names are found."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from torch import Tensor

from robench.models.files.contents import Contents, Path, word

WRAPPERS = {"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}
"""What torch's wrappers (DataParallel, compile, FSDP) put into names, wherever a wrapped module lies."""

OPTIONAL = "num_batches_tracked"
"""A counter that torch before 0.4.1 did not keep."""


@dataclass(frozen=True)
class Candidate:
    """Tensors under one prefix: `weights` by the network's names; what holds each, by its path in the file; and
    `beyond`, the paths of others under that prefix in what holds them."""

    prefix: Path
    weights: Mapping[str, Tensor]
    holder: Mapping[Path, Path]
    beyond: frozenset[Path]

    @property
    def word(self) -> str:
        return word(self.prefix)

    @property
    def holders(self) -> set[Path]:
        return set(self.holder.values())

    def is_under(self, key: str) -> bool:
        """Whether a key as people write it, "." for the whole, leads to it."""
        path = tuple(part for part in key.split(".") if part)
        return self.prefix[: len(path)] == path if path else self.prefix == ()

    def equals(self, other: "Candidate") -> bool:
        return self.weights.keys() == other.weights.keys() and all(
            weight is other.weights[name] or _same(weight, other.weights[name]) for name, weight in self.weights.items()
        )


def candidates(contents: Contents, names: Iterable[str], optional: Iterable[str] = ()) -> list[Candidate]:
    """Those that hold all of a network's `names` but for `optional` ones and counters."""
    wanted = _plain_names(names)
    left_out = {*optional, *(name for name in wanted.values() if name.endswith(OPTIONAL))}
    required = {path for path, name in wanted.items() if name not in left_out}
    found = [_candidate(contents, prefix, wanted) for prefix in _prefixes(contents, required)]
    return [each for each in found if {wanted[path] for path in required} <= each.weights.keys()]


def nearest(contents: Contents, names: Iterable[str]) -> Candidate | None:
    """The one that holds most of the names; None where none holds any."""
    wanted = _plain_names(names)
    prefixes = dict.fromkeys(prefix for path in wanted for prefix in _prefixes(contents, [path]))
    found = [_candidate(contents, prefix, wanted) for prefix in list(prefixes)[:64]]
    return max(found, key=lambda each: len(each.weights), default=None)


def _prefixes(contents: Contents, required: Iterable[Path]) -> list[Path]:
    """Under which the longest of the names is found."""
    anchor = max(required, key=len, default=())
    return [prefix for path in contents.tensors for prefix, rest in _splits(path) if anchor and plain(rest) == anchor]


def _splits(path: Path) -> Iterator[tuple[Path, Path]]:
    """The ways to part a path into a prefix and a name, which no wrapper begins."""
    return ((path[:at], path[at:]) for at in range(len(path)) if path[at] not in WRAPPERS)


def _candidate(contents: Contents, prefix: Path, wanted: Mapping[Path, str]) -> Candidate:
    weights: dict[str, Tensor] = {}
    holder: dict[Path, Path] = {}
    others = []
    for path, tensor in contents.tensors.items():
        if path[: len(prefix)] != prefix:
            continue
        name = path[len(prefix) :]
        if name and name[0] not in WRAPPERS and plain(name) in wanted:
            weights[wanted[plain(name)]] = tensor
            holder[path] = contents.holder[path]
        else:
            others.append(path)
    held = set(holder.values())
    return Candidate(prefix, weights, holder, frozenset(path for path in others if contents.holder[path] in held))


def plain(name: Path) -> Path:
    """A name without what torch's wrappers put into it."""
    return tuple(part for part in name if part not in WRAPPERS)


def _plain_names(names: Iterable[str]) -> dict[Path, str]:
    return {plain(tuple(name.split("."))): name for name in names}


def _same(some: Tensor, other: Tensor) -> bool:
    if some.shape != other.shape or some.dtype != other.dtype or some.layout != other.layout:
        return False
    return not some.is_meta and bool((some == other).all())
