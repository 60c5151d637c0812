"""Adversarial distributional training with an explicit distribution (ADT_EXP)."""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from robench.losses import cross_entropy, kl_divergence
from robench.models.tanh_gaussian import negative_log_density, perturbed
from robench.training.defense import Batch, Defense, Step
from robench.training.inner_max import evaluating
from robench.training.rng import normal
from robench.utils.errors import UserError

REFERENCE_BATCH = 64
"""The paper's batch size. Adam's epsilon is not free of scale, so the inner objective is always divided by it."""


@dataclass(frozen=True)
class ADTEXP(Defense):
    """ce(f(x + delta), y), delta drawn from the worst distribution found around each example (Dong et al. 2020).

    delta = eps * tanh(mu + sigma * r), r ~ N(0, I), sigma = softplus(rho). From mu = rho = 0, Adam raises the expected
    ce plus `entropy_weight` times the entropy per dimension; the model then descends on one fresh draw. The released
    code never clears the gradients of mu and rho between inner steps: `accumulate`.

    loss `trades`: ce(f(x), y) + `beta` * KL(f(x) || f(x + delta)) for the model, with that KL in place of the inner ce,
    which the paper leaves unsaid.

    For l-infinity only. Passes a step: steps * samples + 1, and two more with `trades`, one of them (the inner clean
    logits) forward only.
    """

    steps: int = 7
    samples: int = 5
    entropy_weight: float = 0.01
    inner_lr: float = 0.3
    accumulate: bool = False
    loss: Literal["ce", "trades"] = "ce"
    beta: float = 6.0

    def losses(self, batch: Batch, step: Step) -> dict[str, Tensor]:
        if step.threat.norm != "linf":
            raise UserError(f"adt_exp is defined for linf, not for {step.threat.norm}")
        x, eps = batch.x, step.threat.eps
        mu, rho = (torch.zeros_like(x, requires_grad=True) for _ in range(2))
        adam = torch.optim.Adam([mu, rho], lr=self.inner_lr, betas=(0.0, 0.0), maximize=True)
        y = batch.y.repeat(self.samples)
        reference = self._clean(x, step).repeat(self.samples, 1) if self.loss == "trades" else None
        with evaluating(step.model):
            for _ in range(self.steps):
                noise = self._noise(x, step, self.samples)
                x_adv = perturbed(x, noise, mu, rho, eps).flatten(0, 1)
                logits = step.model(x_adv)
                risks = cross_entropy(logits, y) if reference is None else kl_divergence(reference, logits)
                risk = risks.sum() / self.samples
                entropy = negative_log_density(noise, mu, rho, eps).flatten(2).mean(2).mean(0).sum()
                objective = (risk + self.entropy_weight * entropy) / REFERENCE_BATCH
                gradients = torch.autograd.grad(objective, (mu, rho))
                for parameter, gradient in zip((mu, rho), gradients, strict=True):
                    keep = self.accumulate and parameter.grad is not None
                    parameter.grad = parameter.grad + gradient if keep else gradient  # type: ignore[operator]
                adam.step()
        step.log(entropy=entropy / len(x))
        with torch.no_grad():
            x_adv = perturbed(x, self._noise(x, step, 1), mu, rho, eps)[0]
        if self.loss == "ce":
            return {"model": F.cross_entropy(step.model(x_adv), batch.y)}
        clean = step.model(x)
        smoothness = kl_divergence(clean, step.model(x_adv)).mean()
        return {"model": F.cross_entropy(clean, batch.y) + self.beta * smoothness}

    @staticmethod
    @torch.no_grad()
    def _clean(x: Tensor, step: Step) -> Tensor:
        with evaluating(step.model):
            logits: Tensor = step.model(x)
        return logits

    @staticmethod
    def _noise(x: Tensor, step: Step, samples: int) -> Tensor:
        return normal((samples * len(x), *x.shape[1:]), step.generator).view(samples, *x.shape)
