from collections.abc import Sequence

from torch import Tensor, nn

from robench.models.network import Network


class DigitCNN(Network):
    """A network for 8x8 images: conv 16, 32, 32 (3x3, padded; a max-pool after the second), fc 128. No batch norm."""

    smallest = 2

    def __init__(self, shape: Sequence[int], classes: int) -> None:
        super().__init__(shape, classes)
        self.trunk = nn.Sequential(
            nn.Conv2d(shape[0], 16, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(32, 32, 3, padding=1),
            nn.ReLU(),
        )
        self.hidden = nn.Linear(32 * (shape[1] // 2) * (shape[2] // 2), 128)
        self.classifier = nn.Linear(128, classes)

    def feature_map(self, x: Tensor) -> Tensor:
        return self.trunk(self.normalize(x))  # type: ignore[no-any-return]

    def pool(self, feature_map: Tensor) -> Tensor:
        return self.hidden(feature_map.flatten(1)).relu()  # type: ignore[no-any-return]

    def head(self, features: Tensor) -> Tensor:
        return self.classifier(features)  # type: ignore[no-any-return]


NETWORKS = {"digit_cnn": DigitCNN}
