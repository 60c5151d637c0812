"""Virtual adversarial domain adaptation (VADA), and ALD's form of it with many particles."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robench.losses import soft_cross_entropy
from robench.models.discriminators import DomainDiscriminator
from robench.models.transformed import as_network
from robench.training.defense import LABELLED, MODEL, TARGET, Batch, Defense, Helper, Step
from robench.training.inner_max import evaluating
from robench.training.smoothness import Coupling, Divergence, VirtualAdversary, divergence, untracked
from robench.training.svgd import Bandwidth


@dataclass(frozen=True)
class VADA(Defense):
    """ce on the labelled source, made to carry over to a target domain without labels (Shu et al. 2018; ALD, eq. 16):

    ce(f(x_s), y) + domain_weight * L_d + source_weight * smoothness at x_s
    + target_weight * (entropy of f(x_t) + smoothness at x_t).

    A discriminator tells the domains apart by what the model's encoder gives (its network's `encode`), and the model
    lowers L_d, the mean of the binary cross-entropies with the domains exchanged. The smoothness is that of `vat`, with
    virtual adversaries at an l2 distance of eps, `particles` of them, with a kernel (ALD) or `none`.

    Batch norm keeps running statistics of the target's batches alone, as in DIRT-T, whose weights' moving average
    (`average`) is kept too. Its discriminator moves before the model, here both move at once. Without `domain_weight`,
    `source_weight` and `target_weight` the source alone teaches. Passes a step: 1 of each domain, and
    n * (iterations + 1) of each that is smoothed over.
    """

    streams: ClassVar[Sequence[str]] = (LABELLED, TARGET)

    domain_weight: float = 0.01
    source_weight: float = 0.1
    target_weight: float = 1.0
    divergence: Divergence = "kl"
    particles: int = 1
    xi: float = 10.0
    iterations: int = 1
    kernel_scope: Coupling = "none"
    bandwidth: Bandwidth = "paper"
    discriminator_width: int = 100
    discriminator_lr: float = 2e-3

    def __post_init__(self) -> None:
        assert self._adversary  # refuses what it cannot be made of

    @property
    def _adversary(self) -> VirtualAdversary:
        return VirtualAdversary(
            self.divergence, self.xi, self.iterations, self.particles, self.kernel_scope, self.bandwidth
        )

    def helpers(self, model: nn.Module, shape: Sequence[int], classes: int) -> dict[str, Helper]:
        with evaluating(model), torch.no_grad():
            size = as_network(model).encode(torch.zeros(1, *shape)).numel()
        network = DomainDiscriminator(size, self.discriminator_width)
        adam = torch.optim.Adam(network.parameters(), lr=self.discriminator_lr, betas=(0.5, 0.999))
        return {"discriminator": Helper(network, adam)}

    def losses(self, batch: Batch, step: Step) -> dict[str, Tensor]:
        model, discriminator, x_t = as_network(step.model), step.players["discriminator"], batch.more[TARGET]
        with untracked(model):
            source = model.encode(batch.x)
            logits = model.decode(source)
        target = model.encode(x_t)
        logits_t = model.decode(target)
        v, v_t = discriminator(source), discriminator(target)
        domain = (F.softplus(v).mean() + F.softplus(-v_t).mean()) / 2
        entropy = soft_cross_entropy(logits_t, logits_t.softmax(1)).mean()
        smoothness, smoothness_t = (
            self._smoothness(step, x, reference, weight)
            for x, reference, weight in (
                (batch.x, logits, self.source_weight),
                (x_t, logits_t, self.target_weight),
            )
        )
        step.log(domain=domain, entropy=entropy, source_smoothness=smoothness, target_smoothness=smoothness_t)
        adaptation = self.domain_weight * domain + self.source_weight * smoothness
        adaptation = adaptation + self.target_weight * (entropy + smoothness_t)
        told_apart = (F.softplus(-v).mean() + F.softplus(v_t).mean()) / 2
        return {MODEL: F.cross_entropy(logits, batch.y) + adaptation, "discriminator": told_apart}

    def _smoothness(self, step: Step, x: Tensor, logits: Tensor, weight: float) -> Tensor:
        """A scalar; 0 where it has no weight."""
        if not weight:
            return x.new_zeros(())
        reference = logits.detach()
        with untracked(step.model):
            x_adv = self._adversary.around(step, x, reference)
            change = divergence(self.divergence, reference.repeat(self.particles, 1), step.model(x_adv))
        return change.mean()
