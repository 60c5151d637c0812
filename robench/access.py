"""How much of a model an attack may see."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

Access = Literal["labels", "scores", "gradients"]
"""What an attack may see of the model; each level includes those before it."""


def reveals(given: Access, asked: Access) -> bool:
    """Whether a level of access includes another."""
    return get_args(Access).index(asked) <= get_args(Access).index(given)


def most(levels: Sequence[Access]) -> Access:
    """The level that includes the others."""
    return max(levels, key=get_args(Access).index)


@dataclass(frozen=True)
class Sight:
    """What an attack, or one part of a composite, goes by. `unsaturated`: it follows logits, features or labels, which
    still differ where the softmax is 1 and 0 and the cross-entropy has no slope."""

    access: Access
    unsaturated: bool = False
