"""The two-dimensional toy of ATLD (2021), Figures 1, 4, 6 and 7: what defenses do to two half-moons."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from robench.models.network import Network
from robench.threat import ThreatModel
from robench.training.defense import MODEL, Batch, Defense, Helper, Step
from robench.training.recipe import defense_file, written

Players = Mapping[str, nn.Module]

DEFENSES = {
    "standard": "standard",
    "pgd_at": "pgd_at:steps=10,step_size=eps/4",
    "feature_scatter": "feature_scatter:smoothing=0.1",
    "atld": "atld:discriminator_depth=10,discriminator_factor=1,discriminator_lr=0.05,smoothing=0.1,imt=plain",
}
"""The discriminator is that of ATLD's recipe for the digits. Of two classes a smoothing of 0.5 would leave no label."""

USES = [defense_file(name) for name in DEFENSES]

SCHEMES = ("pgd_at", "feature_scatter", "atld")
"""Those that perturb."""

ORIGIN, SCALE = (-1.5, -1.75), 4.0
"""The square of the plane that becomes the box [0, 1]^2 of images with two pixels."""

GRID = 101
"""Points of a side on which boundaries are kept."""

ARROWS = (23, 17)
"""Of the vector fields, along x and y."""

SEED = 0


def measure(*, points: int = 400, noise: float = 0.1, eps: float = 0.2, epochs: int = 100) -> dict[str, Any]:
    """Everything the four figures show, in the units of the plane.

    The paper says neither what the data are nor the radius, network and schedule. The axes of its Figure 7 (-1.5 to 2.5
    and -1.5 to 1.5) are those of scikit-learn's half-moons, which are taken here with Gaussian `noise`, within l-inf
    `eps`, for a network of two hidden layers of 64 and SGD on batches of 100.

    `margins`: of each trained model the logit of class 1 less that of class 0 on a grid over `square`, row by row of y.
    `perturbed`: what each scheme makes of the points on the standard model, ATLD's discriminator being trained beside
    it; the share `right` of them is classified right there. `fields`: likewise the steepest directions, in l2, of what
    each scheme raises at the points `arrows`, which make one batch and bear the labels that the model gives them.
    `attacked`: the points under PGD on ATLD's model; `adjusted`: those after IMT. `accuracy`: of each trained model on
    the points, clean and under PGD, and of ATLD's on those adjusted.
    """
    toy = Toy(points, noise, eps, epochs)
    players = {name: toy.trained(name) for name in DEFENSES}
    standard, atld = players["standard"], players["atld"]
    attackers = {"pgd_at": standard, "feature_scatter": standard, "atld": toy.with_discriminator(standard)}
    perturbed = {name: toy.perturbed(name, attackers[name]) for name in SCHEMES}
    attacked = {name: toy.perturbed("pgd_at", each) for name, each in players.items()}
    imt: Any = written(DEFENSES["atld"]).deploy(atld, toy.threat).eval()
    adjusted = imt.transformed(attacked["atld"])
    accuracy = {
        name: {"clean": toy.accuracy(each, toy.data.x), "pgd": toy.accuracy(each, attacked[name])}
        for name, each in players.items()
    }
    accuracy["atld"]["adjusted"] = toy.accuracy(atld, adjusted)
    return {
        "points": _plane(toy.data.x),
        "labels": toy.data.y.tolist(),
        "eps": eps,
        "square": [ORIGIN[0], ORIGIN[0] + SCALE, ORIGIN[1], ORIGIN[1] + SCALE],
        "margins": {name: _margins(each[MODEL]) for name, each in players.items()},
        "accuracy": accuracy,
        "perturbed": {name: _plane(x_adv) for name, x_adv in perturbed.items()},
        "right": {name: toy.accuracy(standard, x_adv) for name, x_adv in perturbed.items()},
        "arrows": _plane(_arrows()),
        "fields": {name: _rounded(toy.directions(name, attackers[name])) for name in SCHEMES},
        "attacked": _plane(attacked["atld"]),
        "adjusted": _plane(adjusted),
    }


class TwoPixels(Network):
    """Two hidden layers of 64 on images [B, 1, 1, 2]."""

    smallest = 1

    def __init__(self) -> None:
        super().__init__((1, 1, 2), 2)
        self.normalize.set((0.5,), (0.25,))
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(2, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU())
        self.last = nn.Linear(64, 2)

    def feature_map(self, x: Tensor) -> Tensor:
        return self.body(self.normalize(x))  # type: ignore[no-any-return]

    def pool(self, feature_map: Tensor) -> Tensor:
        return feature_map

    def head(self, features: Tensor) -> Tensor:
        return self.last(features)  # type: ignore[no-any-return]


@dataclass
class Toy:
    """The points as images, the threat, and what is trained on them."""

    points: int
    noise: float
    eps: float
    epochs: int

    def __post_init__(self) -> None:
        from sklearn.datasets import make_moons

        points, labels = make_moons(self.points, noise=self.noise, random_state=SEED)
        self.data = Batch(_images(torch.from_numpy(points).float()), torch.from_numpy(labels))
        self.threat = ThreatModel.of("linf", self.eps / SCALE)
        self.generator = torch.Generator().manual_seed(SEED)

    def trained(self, name: str) -> Players:
        """The players of a defense after training."""
        defense = written(DEFENSES[name])
        torch.manual_seed(SEED)
        model = TwoPixels()
        sgd = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
        players = {MODEL: Helper(model, sgd), **defense.helpers(model, (1, 1, 2), 2)}
        return self._train(defense, players, players)

    def with_discriminator(self, trained: Players) -> Players:
        """A trained model, which stays as it is, with ATLD's discriminator that learned beside it."""
        defense = written(DEFENSES["atld"])
        torch.manual_seed(SEED)
        helpers = defense.helpers(trained[MODEL], (1, 1, 2), 2)
        still = Helper(trained[MODEL], torch.optim.SGD(trained[MODEL].parameters()))
        return self._train(defense, {MODEL: still, **helpers}, helpers)

    def perturbed(self, name: str, players: Players) -> Tensor:
        """What the scheme makes of the points."""
        return self._shown(written(DEFENSES[name]), players, self.data, self.threat)

    def directions(self, name: str, players: Players) -> Tensor:
        """[B, 2], of unit length, from within 0.001 of the points of the field."""
        one_step: dict[str, Any] = {"steps": 1, "step_size": "eps"} if name == "pgd_at" else {}
        defense = replace(written(DEFENSES[name]), start="near_uniform", **one_step)  # type: ignore[call-arg]
        x, threat = _arrows(), ThreatModel.of("l2", 0.02)
        moved = self._shown(defense, players, Batch(x, players[MODEL](x).argmax(1)), threat)
        return (moved - x).flatten(1) / threat.eps

    def accuracy(self, players: Players, x: Tensor) -> float:
        with torch.no_grad():
            right = players[MODEL](x).argmax(1) == self.data.y
        return int(right.sum()) / len(right)

    def _train(self, defense: Defense, players: Mapping[str, Helper], moving: Collection[str]) -> Players:
        """By the defense's losses; of the players those in `moving` move."""
        networks = {name: player.network.train() for name, player in players.items()}
        for epoch in range(self.epochs):
            for rows in torch.randperm(self.points, generator=self.generator).split(100):  # type: ignore[no-untyped-call]
                step = Step(networks, self.threat, self.generator, epoch)
                losses = defense.losses(Batch(self.data.x[rows], self.data.y[rows]), step)
                for name in moving:  # every gradient before any player moves
                    parameters = list(networks[name].parameters())
                    gradients = torch.autograd.grad(losses[name], parameters, retain_graph=True)
                    for parameter, gradient in zip(parameters, gradients, strict=True):
                        parameter.grad = gradient
                for name in moving:
                    players[name].optimizer.step()
        return {name: network.eval() for name, network in networks.items()}

    def _shown(self, defense: Defense, players: Players, batch: Batch, threat: ThreatModel) -> Tensor:
        """What a step of the defense shows the model last: the batch perturbed."""
        seen: list[Tensor] = []
        handle = players[MODEL].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach()))
        defense.losses(batch, Step(players, threat, self.generator, 0.0))
        handle.remove()
        return seen[-1]


def _images(points: Tensor) -> Tensor:
    """[N, 2] of the plane as images [N, 1, 1, 2] in the box."""
    return ((points - torch.tensor(ORIGIN)) / SCALE).clamp(0, 1).view(-1, 1, 1, 2)


def _plane(images: Tensor) -> list[list[float]]:
    return _rounded(images.flatten(1) * SCALE + torch.tensor(ORIGIN))


def _margins(model: nn.Module) -> list[list[float]]:
    side = torch.linspace(0, 1, GRID)
    y, x = torch.meshgrid(side, side, indexing="ij")
    with torch.no_grad():
        logits = model(torch.stack([x, y], 2).view(-1, 1, 1, 2))
    return _rounded((logits[:, 1] - logits[:, 0]).view(GRID, GRID))


def _arrows() -> Tensor:
    """Over the points and a little around them, clear of the box's edge."""
    return _images(torch.cartesian_prod(torch.linspace(-1.4, 2.4, ARROWS[0]), torch.linspace(-1.2, 1.6, ARROWS[1])))


def _rounded(values: Tensor) -> list[list[float]]:
    rounded: list[list[float]] = np.round(values.double().numpy(), 3).tolist()
    return rounded
