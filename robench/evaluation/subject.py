"""A model that is evaluated, with what is known of it."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any
from uuid import uuid4

from torch import Tensor, nn

from robench.access import Access
from robench.models import checkpoint
from robench.models.checkpoint import weights_fingerprint
from robench.models.description import Description, describe
from robench.models.description.tensors import can_be_weights
from robench.models.network import normalised, written
from robench.utils.copying import copied


class NotReused(UserWarning):
    """Rows are made again in each run, since it cannot be told whether they would be the same."""


@dataclass(frozen=True)
class Subject:
    """A model, its name for people, and what its checkpoint knows (None where nothing does)."""

    model: nn.Module
    name: str
    arch: str
    card: checkpoint.Card | None = None
    undefended: nn.Module | None = None
    """without its test-time transform, where it has one"""
    gives: Access = "gradients"
    """what it shows of itself"""
    notices: list[str] = field(default_factory=list)
    token: str = ""
    """which makes its key no other's, whatever is seen of it"""

    def key(self) -> dict[str, Any]:
        """What of the model could change its predictions, as it was when this was first asked: its weights, and all
        else that its answers depend on. Where something of that cannot be seen, the key is no other subject's."""
        return {"weights": self._weights, "source": self._described.fingerprint, **self._alone}

    @cached_property
    def hidden(self) -> Sequence[str]:
        """What of the model cannot be described, in words."""
        return self._described.hidden

    def alone(self) -> "Subject":
        """The same, whose key is no other's."""
        return replace(self, token=uuid4().hex)

    def afresh(self) -> "Subject":
        """The same, whose key is that of the model as it is now."""
        return replace(self)

    @property
    def _tensors(self) -> dict[str, Tensor]:
        named = [*self.model.named_parameters(), *self.model.named_buffers()]
        return {name: tensor for name, tensor in named if can_be_weights(tensor)}

    @cached_property
    def _weights(self) -> str:
        return weights_fingerprint(self._tensors)

    @cached_property
    def _described(self) -> Description:
        return describe(self.model, apart=self._tensors.values())

    @cached_property
    def _alone(self) -> dict[str, str]:
        token = self.token or (uuid4().hex if self.hidden else "")
        return {"alone": token} if token else {}

    def behind(self, mean: Sequence[float], std: Sequence[float]) -> "Subject":
        """The same behind a normalisation, which its notices tell. Raises UserError where it would come on top of one
        of its own."""
        model, undefended = (
            normalised(copied(each), self.name, mean, std).eval() if each else None
            for each in (self.model, self.undefended)
        )
        assert model is not None
        notice = f"the input of {self.name} is normalised by a mean of {written(mean)} and a std of {written(std)}"
        return replace(self, model=model, undefended=undefended, notices=[*self.notices, notice])

    def about(self) -> dict[str, Any]:
        """Names and numbers for people; none of it changes a prediction."""
        card = self.card
        return {
            "model": self.name,
            "arch": self.arch,
            "defense": card.defense if card else None,
            "recipe": card.recipe if card else None,
            "train_seed": card.seed if card else None,
            "trained_on": card.dataset if card else None,
            "trained_threat": f"{card.norm} {card.eps}" if card else None,
        }
