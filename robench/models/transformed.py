from abc import abstractmethod

from torch import Tensor, nn

from robench.models.network import Network
from robench.utils.errors import UserError


class Transformed(Network):
    """A model behind a transform of its input, with the model's features where it is a network of robench."""

    smallest = 1

    def __init__(self, model: nn.Module) -> None:
        super().__init__((), 0)
        self.model = model

    @abstractmethod
    def transformed(self, x: Tensor) -> Tensor:
        """What the model sees of images [B, ...]."""

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.model(self.transformed(x))
        return logits

    def feature_map(self, x: Tensor) -> Tensor:
        return as_network(self.model).feature_map(self.transformed(x))

    def pool(self, feature_map: Tensor) -> Tensor:
        return as_network(self.model).pool(feature_map)

    def head(self, features: Tensor) -> Tensor:
        return as_network(self.model).head(features)


def as_network(model: nn.Module) -> Network:
    """The model, where its features are needed."""
    if not isinstance(model, Network):
        raise UserError(f"features are needed, which robench's networks show and {type(model).__name__} does not")
    return model
