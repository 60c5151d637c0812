from collections import OrderedDict
from collections.abc import Sequence

from torch import Tensor, nn

from robench.models.network import Network


class SmallCNN(Network):
    """The MNIST network of TRADES: conv 32, 32, pool, 64, 64, pool (3x3, unpadded), fc 200, dropout, 200.

    Its last layer starts at zero. Parameter names are those of the TRADES code.
    """

    smallest = 16

    def __init__(self, shape: Sequence[int], classes: int) -> None:
        super().__init__(shape, classes)
        height, width = (((side - 4) // 2 - 4) // 2 for side in shape[1:])
        self.feature_extractor = nn.Sequential(
            OrderedDict(
                conv1=nn.Conv2d(shape[0], 32, 3),
                relu1=nn.ReLU(),
                conv2=nn.Conv2d(32, 32, 3),
                relu2=nn.ReLU(),
                maxpool1=nn.MaxPool2d(2),
                conv3=nn.Conv2d(32, 64, 3),
                relu3=nn.ReLU(),
                conv4=nn.Conv2d(64, 64, 3),
                relu4=nn.ReLU(),
                maxpool2=nn.MaxPool2d(2),
            )
        )
        self.classifier = nn.Sequential(
            OrderedDict(
                fc1=nn.Linear(64 * height * width, 200),
                relu1=nn.ReLU(),
                drop=nn.Dropout(0.5),
                fc2=nn.Linear(200, 200),
                relu2=nn.ReLU(),
                fc3=nn.Linear(200, classes),
            )
        )
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight)
        for parameter in self.classifier[-1].parameters():
            nn.init.zeros_(parameter)

    def feature_map(self, x: Tensor) -> Tensor:
        return self.feature_extractor(self.normalize(x))  # type: ignore[no-any-return]

    def pool(self, feature_map: Tensor) -> Tensor:
        return self.classifier[:-1](feature_map.flatten(1))  # type: ignore[no-any-return]

    def head(self, features: Tensor) -> Tensor:
        return self.classifier[-1](features)  # type: ignore[no-any-return]


NETWORKS = {"small_cnn": SmallCNN}
