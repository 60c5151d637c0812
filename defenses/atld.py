"""Adversarial training with latent distributions (ATLD, 2021), and inference with manifold transformation (IMT)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robench.losses import smoothed, soft_cross_entropy
from robench.models.discriminators import Discriminator
from robench.models.transformed import Transformed, as_network
from robench.threat import ThreatModel, per_example
from robench.training.defense import MODEL, Batch, Defense, Helper, Step
from robench.training.inner_max import Start, ascend, evaluating, start_points

Latent = Literal["logits", "features"]
"""What of the model the discriminator sees: its logits (the code), or what its last layer sees (the paper)."""


@dataclass(frozen=True)
class ATLD(Defense):
    """ce(f(x_adv), smoothed y) + an invariance term, x_adv being what a discriminator D of latents is surest to be one.

    D0 is D's probability that a latent is an adversarial image's. From a uniform start one step of eps, both networks
    in evaluation mode (the code's discriminator is not), raises the manifold objective log D0(f(x_adv)) +
    log(1 - D0(f(x))), whose second term the paper prints as 1 - log D0; no label is involved. The discriminator raises
    it too, and learns the classes of both latents from labels smoothed as the model's.

    invariance `mse` (the code): `invariance_weight` (a half; on CIFAR-100 a tenth) * scale * the mean squared
    difference of the two latents, that of x a constant from evaluation mode; the scale makes the term's greatest slope
    at x_adv that of ce. `discriminator` (eq. 7, at a weight of 1): the manifold objective, which the model lowers.

    The paper leaves the discriminator's training open. The code moves it twice a batch on the same latents, before the
    model moves; all players move once here, so its one step has twice the `discriminator_lr`, the same to first order.
    `feature_width` is the model's number of `features`; a WRN-28-10 has 640. With `imt` (none of it in training) what
    is deployed moves each image a step of eps against D0, see `IMT`.

    Passes a step: 3, that of x forward only; `mse` adds two backward passes to the input.
    """

    latent: Latent = "logits"
    invariance: Literal["mse", "discriminator"] = "mse"
    invariance_weight: float = 0.5
    smoothing: float = 0.5
    start: Start = "ball"
    discriminator_depth: int = 28
    discriminator_factor: int = 5
    discriminator_lr: float = 1e-3
    feature_width: int = 640
    imt: Literal["none", "plain", "plus"] = "none"
    band_low: float = 0.3
    band_high: float = 0.7

    def helpers(self, model: nn.Module, shape: Sequence[int], classes: int) -> dict[str, Helper]:
        width = classes if self.latent == "logits" else self.feature_width
        network = Discriminator(width, classes, self.discriminator_depth, self.discriminator_factor)
        sgd = torch.optim.SGD(network.parameters(), lr=2 * self.discriminator_lr, momentum=0.9, weight_decay=2e-4)
        return {"discriminator": Helper(network, sgd)}

    @property
    def couples(self) -> bool:
        return self.invariance == "mse"  # its scale is of the batch

    def losses(self, batch: Batch, step: Step) -> dict[str, Tensor]:
        x, model, discriminator = batch.x, step.model, step.players["discriminator"]
        x_adv = self._manifold_adversary(batch, step).requires_grad_()
        with evaluating(model):
            natural, _ = latent_and_logits(model, x, self.latent)
        adversarial, logits = latent_and_logits(model, x_adv, self.latent)
        v_adversarial, classes_adversarial = discriminator(adversarial)
        v_natural, classes_natural = discriminator(natural)

        y = smoothed(batch.y, logits.shape[1], self.smoothing)
        manifold = (F.logsigmoid(v_adversarial) + F.logsigmoid(-v_natural)).mean()
        classes = (soft_cross_entropy(classes_adversarial, y) + soft_cross_entropy(classes_natural, y)).mean()
        risk = soft_cross_entropy(logits, y).mean()
        distance = F.mse_loss(adversarial, natural.detach())
        term = scale(risk, distance, x_adv) * distance if self.invariance == "mse" else manifold
        step.log(manifold=manifold, invariance=term)
        return {MODEL: risk + self.invariance_weight * term, "discriminator": classes - manifold}

    def deploy(self, players: Mapping[str, nn.Module], threat: ThreatModel) -> nn.Module:
        if self.imt == "none":
            return players[MODEL]
        suspicion = Suspicion(players[MODEL], players["discriminator"], self.latent)
        return IMT(suspicion, threat, (self.band_low, self.band_high) if self.imt == "plus" else None)

    def _manifold_adversary(self, batch: Batch, step: Step) -> Tensor:
        suspicion = Suspicion(step.model, step.players["discriminator"], self.latent)
        start = start_points(self.start, batch.x, step.threat, step.generator)
        return ascend(suspicion, batch, suspected, start=start, threat=step.threat, steps=1, step_size=step.threat.eps)


def suspected(v: Tensor, y: Tensor) -> Tensor:
    """v [B], which rises with log D0, whatever the label: the loss of `Suspicion`."""
    return v


def latent_and_logits(model: nn.Module, x: Tensor, latent: Latent) -> tuple[Tensor, Tensor]:
    """The latents [B, K] that the discriminator sees, and the logits [B, C], in one pass."""
    if latent == "logits":
        logits: Tensor = model(x)
        return logits, logits
    features = as_network(model).features(x)
    return features, as_network(model).head(features)


def scale(risk: Tensor, term: Tensor, x_adv: Tensor) -> Tensor:
    """The ratio of the greatest entries, signed and over the batch, of the two losses' gradients at x_adv; 0 where the
    second has no slope (ours: the code divides by it)."""
    (of_risk,) = torch.autograd.grad(risk, x_adv, retain_graph=True)
    (of_term,) = torch.autograd.grad(term, x_adv, retain_graph=True)
    return torch.where(of_term.max() > 0, of_risk.max() / of_term.max(), 0.0)


class Suspicion(nn.Module):
    """x -> v [B], sigmoid(v) being D0(f(x)). Where v rises so does log D0, whose slope, unlike v's, can underflow."""

    def __init__(self, model: nn.Module, discriminator: nn.Module, latent: Latent) -> None:
        super().__init__()
        self.model, self.discriminator, self.latent = model, discriminator, latent

    def forward(self, x: Tensor) -> Tensor:
        v: Tensor = self.discriminator(latent_and_logits(self.model, x, self.latent)[0])[0]
        return v


class IMT(Transformed):
    """The model behind inference with manifold transformation: x moves a signed step of eps against log D0(f(x)),
    projected around the image received, which may itself be a perturbed one, and on the box (ATLD, eq. 26).

    IMT+ gives a `band` of D0 in which the step is halved. The paper's is [0.3, 0.7]; on SVHN its code halves from 0.4
    to 0.7 (it has 1 - D0, from 0.3 to 0.6) for images it has attacked, which nobody knows at test time. The sign's
    slope is 0, so the gradient that an attacker gets, the model's at the moved image, is also the true one, but where
    the box or the band's ends cut (BPDA with the identity, Athalye et al. 2018). Costs two forward passes and a
    backward one.
    """

    def __init__(self, suspicion: Suspicion, threat: ThreatModel, band: tuple[float, float] | None) -> None:
        super().__init__(suspicion.model)
        self.suspicion, self.threat, self.band = suspicion, threat, band

    def transformed(self, x: Tensor) -> Tensor:
        with torch.enable_grad():
            received = x.detach().requires_grad_()
            v = self.suspicion(received)
            (gradient,) = torch.autograd.grad(v.sum(), received)
        size = torch.full_like(v.detach(), self.threat.eps)
        if self.band:
            low, high = self.band
            probability = v.detach().sigmoid()
            size = torch.where((low <= probability) & (probability <= high), size / 2, size)
        moved = self.threat.project(x - per_example(size, x) * self.threat.steepest(gradient), x)
        return x + (moved - x).detach()

    def extra_repr(self) -> str:
        return f"{self.threat}, band {self.band}"
