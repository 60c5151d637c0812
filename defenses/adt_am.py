"""Adversarial distributional training with distributions that a generator network makes (ADT_EXP-AM, ADT_IMP-AM)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robench.losses import kl_divergence
from robench.models.generators import LATENT, Blocks, ExplicitGenerator, ImplicitGenerator, Posterior, generator_input
from robench.models.tanh_gaussian import negative_log_density, perturbed
from robench.training.defense import Batch, Defense, Helper, Step
from robench.training.inner_max import evaluating
from robench.training.rng import normal, uniform
from robench.utils.errors import UserError


@dataclass(frozen=True)
class ADTAM(Defense):
    """ce(f(x + delta), y), which the model lowers and a generator of delta raises in the same step (Dong et al. 2020).

    The generator sees x and the gradients of ce at x and at the FGSM point. `explicit`: it gives the mean and deviation
    of a tanh-Gaussian. `implicit`: it turns z ~ U(-1, 1)^64 into delta, whose entropy a third player, the posterior
    q(z | delta), bounds below by log q(z | delta). To its risk the generator adds `entropy_weight` times the entropy or
    the bound, as a mean over dimensions as in the code (the paper sums). With an `entropy_threshold` h that
    term is -entropy_weight * relu(-bound - h) instead: the code has a weight of 1 and h = 0.9, which the prior alone
    satisfies, so the term can go silent.

    loss `trades`: ce(f(x), y) + `beta` * KL(f(x) || f(x + delta)) for the model; the generator's risk is then that KL,
    which the paper leaves unsaid.

    For l-infinity only. One draw a step, from the generator and with the model in training mode. The generator's Adam
    has betas (0.5, 0.999), the posterior's PyTorch's own, as in the code. Passes a step: 3 (two of them for the
    generator's input), and one more with `trades`.
    """

    distribution: Literal["explicit", "implicit"] = "explicit"
    loss: Literal["ce", "trades"] = "ce"
    beta: float = 6.0
    entropy_weight: float = 0.01
    entropy_threshold: float | None = None
    filters: int = 256
    blocks: Blocks = "code"
    generator_lr: float = 2e-4

    def __post_init__(self) -> None:
        if self.distribution == "explicit" and self.entropy_threshold is not None:
            raise UserError("entropy_threshold belongs to the implicit distribution")

    def helpers(self, model: nn.Module, shape: Sequence[int], classes: int) -> dict[str, Helper]:
        kind = ExplicitGenerator if self.distribution == "explicit" else ImplicitGenerator
        generator = kind(shape, self.filters, self.blocks)
        adam = torch.optim.Adam(generator.parameters(), lr=self.generator_lr, betas=(0.5, 0.999))
        players = {"generator": Helper(generator, adam)}
        if self.distribution == "implicit":
            posterior = Posterior(shape, self.filters)
            players["posterior"] = Helper(posterior, torch.optim.Adam(posterior.parameters(), lr=self.generator_lr))
        return players

    def losses(self, batch: Batch, step: Step) -> dict[str, Tensor]:
        if step.threat.norm != "linf":
            raise UserError(f"adt_am is defined for linf, not for {step.threat.norm}")
        with evaluating(step.model):
            seen = generator_input(step.model, batch.x, batch.y, step.threat.eps)
        x_adv, entropy = (self._explicit if self.distribution == "explicit" else self._implicit)(batch.x, seen, step)
        if self.loss == "ce":
            loss = risk = F.cross_entropy(step.model(x_adv), batch.y)
        else:
            clean = step.model(batch.x)
            risk = kl_divergence(clean, step.model(x_adv)).mean()
            loss = F.cross_entropy(clean, batch.y) + self.beta * risk
        spread = entropy if self.entropy_threshold is None else -F.relu(-entropy - self.entropy_threshold)
        step.log(entropy=entropy)
        losses = {"model": loss, "generator": -risk - self.entropy_weight * spread}
        return losses if self.distribution == "explicit" else {**losses, "posterior": -self.entropy_weight * spread}

    @staticmethod
    def _explicit(x: Tensor, seen: Tensor, step: Step) -> tuple[Tensor, Tensor]:
        """x_adv [B, ...], and the entropy per dimension at this draw."""
        mu, rho = step.players["generator"](seen)
        noise = normal(x.shape, step.generator)
        entropy = negative_log_density(noise, mu, rho, step.threat.eps).mean()
        return perturbed(x, noise, mu, rho, step.threat.eps), entropy

    @staticmethod
    def _implicit(x: Tensor, seen: Tensor, step: Step) -> tuple[Tensor, Tensor]:
        """x_adv [B, ...], and the entropy's bound per dimension of z, without its constant."""
        z = 2 * uniform((len(x), LATENT), step.generator) - 1
        delta = step.players["generator"](seen, z)
        return (x + step.threat.eps * delta).clamp(0, 1), step.players["posterior"](delta, z).mean()
