from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from robench.models.network import Network


class LeNet(Network):
    """LeNet-5 as ALD uses it on MNIST: conv 6@5, pool, conv 16@5, pool, fc 120, 84; no padding, ReLU, max-pooling."""

    smallest = 16

    def __init__(self, shape: Sequence[int], classes: int) -> None:
        super().__init__(shape, classes)
        height, width = (((side - 4) // 2 - 4) // 2 for side in shape[1:])
        self.conv1 = nn.Conv2d(shape[0], 6, 5)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.fc1 = nn.Linear(16 * height * width, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, classes)

    def feature_map(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(self.conv1(self.normalize(x)).relu(), 2)
        return F.max_pool2d(self.conv2(x).relu(), 2)

    def pool(self, feature_map: Tensor) -> Tensor:
        return self.fc2(self.fc1(feature_map.flatten(1)).relu()).relu()  # type: ignore[no-any-return]

    def head(self, features: Tensor) -> Tensor:
        return self.fc3(features)  # type: ignore[no-any-return]


NETWORKS = {"lenet": LeNet}
