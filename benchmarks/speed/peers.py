"""The same attacks in torchattacks, foolbox and adversarial-robustness-toolbox, each called as its documentation shows.

Every library gets the model in evaluation mode with its parameters frozen, which spares foolbox and ART the gradients
of parameters that they would compute otherwise.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import eagerpy
import foolbox
import numpy as np
import torch
import torchattacks
from art.attacks.evasion import ProjectedGradientDescent
from art.estimators.classification import PyTorchClassifier
from setting import Setting
from torch import Tensor, nn

LIBRARIES = ("torchattacks", "foolbox", "adversarial-robustness-toolbox")

BATCHES = (32, 64, 128, 256)
"""Each library gets the one that its PGD is fastest with."""

SPSA = "spsa-256"
SPSA_PAIRS, SPSA_IMAGES = 128, 8

Craft = Callable[[Tensor, Tensor], Tensor]
"""x [B, ...] and y [B] to x_adv [B, ...]"""


def _torchattacks_pgd(setting: Setting, steps: int) -> Craft:
    return torchattacks.PGD(setting.model, eps=setting.eps, alpha=setting.step_size, steps=steps)


def _foolbox(setting: Setting, attack: foolbox.Attack) -> Craft:
    seen = foolbox.PyTorchModel(setting.model, bounds=(0, 1), device="cpu")
    return lambda x, y: attack(seen, x, y, epsilons=setting.eps)[1]


def _foolbox_pgd(setting: Setting, steps: int) -> Craft:
    return _foolbox(setting, foolbox.attacks.LinfPGD(abs_stepsize=setting.step_size, steps=steps))


def _art_pgd(setting: Setting, steps: int) -> Craft:
    seen = PyTorchClassifier(
        setting.model,
        loss=nn.CrossEntropyLoss(),
        input_shape=tuple(setting.x.shape[1:]),
        nb_classes=setting.model(setting.x[:1]).shape[1],
        clip_values=(0.0, 1.0),
        device_type="cpu",
    )
    attack = ProjectedGradientDescent(
        seen,
        norm=np.inf,
        eps=setting.eps,
        eps_step=setting.step_size,
        max_iter=steps,
        num_random_init=1,
        batch_size=max(BATCHES),
        verbose=False,
    )
    return lambda x, y: torch.from_numpy(attack.generate(x.numpy(), y.numpy()))


PGD: Mapping[str, Callable[[Setting, int], Craft]] = dict(
    zip(LIBRARIES, (_torchattacks_pgd, _foolbox_pgd, _art_pgd), strict=True)
)
"""Plain PGD from one random start, by library."""


class _MarginPGD(foolbox.attacks.LinfPGD):  # type: ignore[misc]
    """PGD on max_{j != y} z_j - z_y, through the method that foolbox leaves to its users for this."""

    def get_loss_fn(self, model: foolbox.Model, labels: eagerpy.Tensor) -> Callable[[eagerpy.Tensor], eagerpy.Tensor]:
        def margin(x: eagerpy.Tensor) -> eagerpy.Tensor:
            logits = model(x)
            true = eagerpy.onehot_like(logits, labels, value=1)
            return ((logits - 1e9 * true).max(1) - (logits * true).sum(1)).sum()

        return margin


def spsa(setting: Setting, batch: int, steps: int = 100) -> Craft:
    """Takes `SPSA_IMAGES` at a time, with as many pairs of queries of each as fill a batch."""
    return torchattacks.SPSA(
        setting.model,
        eps=setting.eps,
        delta=0.001,
        lr=0.01,
        nb_iter=steps,
        nb_sample=SPSA_PAIRS,
        max_batch_size=max(batch // min(SPSA_IMAGES, setting.n), 1),
    )


@dataclass(frozen=True)
class Peer:
    """An attack of ours as another library has it: made for a setting, and for a batch size where its own batch is not
    simply that of the images it is given; in what it differs from ours."""

    package: str
    craft: Callable[[Setting, int], Craft]
    differs: str = ""


SUITE: Mapping[str, Peer] = {
    "fgsm": Peer("torchattacks", lambda setting, _: torchattacks.FGSM(setting.model, eps=setting.eps)),
    **{
        f"pgd-{steps}": Peer("torchattacks", lambda setting, _, steps=steps: _torchattacks_pgd(setting, steps))
        for steps in (20, 100, 200)
    },
    "mim": Peer(
        "torchattacks",
        lambda setting, _: torchattacks.MIFGSM(setting.model, eps=setting.eps, alpha=setting.step_size, steps=20),
        differs="begins at x itself",
    ),
    "cw-30": Peer(
        "foolbox",
        lambda setting, _: _foolbox(setting, _MarginPGD(abs_stepsize=setting.step_size, steps=30)),
        differs="is its PGD with another loss",
    ),
    SPSA: Peer("torchattacks", spsa, differs="never stops early"),
}
"""By their names in robench."""


def in_batches(craft: Craft, x: Tensor, y: Tensor, batch: int) -> Tensor:
    """What an attack makes of all examples."""
    parts = zip(x.split(batch), y.split(batch), strict=True)
    return torch.cat([craft(part, labels).detach().float() for part, labels in parts])
