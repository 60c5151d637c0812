"""The networks that tell adversarial latents from natural ones, for ATLD, and one domain from another, for VADA."""

from torch import Tensor, nn

from robench.models.wide_resnet import WideResNet
from robench.utils.errors import UserError


class Discriminator(nn.Module):
    """Latents [B, width] -> v [B], sigmoid(v) being D0, that of the adversarial side, and class logits [B, C].

    A Wide ResNet takes each latent as a 1x1 image of `width` channels, as in ATLD's code (28-5); its last layer has
    1 + C outputs, the code's two heads side by side.
    """

    def __init__(self, width: int, classes: int, depth: int, factor: int) -> None:
        super().__init__()
        if depth < 10 or depth % 6 != 4:
            raise UserError(f"expected a discriminator of depth 10, 16, 22, ..., got {depth}")
        self.width = width
        self.network = WideResNet((width, 1, 1), 1 + classes, depth, factor)

    def forward(self, latent: Tensor) -> tuple[Tensor, Tensor]:
        if latent.shape[1] != self.width:
            raise UserError(f"the model's latents have {latent.shape[1]} values, not the discriminator's {self.width}")
        outputs = self.network(latent[:, :, None, None])
        return outputs[:, 0], outputs[:, 1:]


class DomainDiscriminator(nn.Module):
    """Encoded images [B, ...] of `size` values each -> v [B], sigmoid(v) being that the image is of the source: fc 100,
    ReLU, fc 1 (VADA, Shu et al. 2018)."""

    def __init__(self, size: int, width: int = 100) -> None:
        super().__init__()
        self.hidden, self.out = nn.Linear(size, width), nn.Linear(width, 1)

    def forward(self, encoded: Tensor) -> Tensor:
        return self.out(self.hidden(encoded.flatten(1)).relu()).squeeze(1)  # type: ignore[no-any-return]
