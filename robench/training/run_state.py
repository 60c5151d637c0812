"""The state of a training run: what a resumed one needs to go on to the bit."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import extract_model_from_parallel
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from robench.models import carrier, checkpoint, make
from robench.training.defense import MODEL, Helper
from robench.training.difference import difference
from robench.training.optim import averaged, optimizer
from robench.training.plan import Plan
from robench.training.seeds import seed_of
from robench.utils.errors import UserError
from robench.utils.fingerprints import fingerprint


@dataclass
class RunState:
    """The players of a training, what moves their weights, and how far it has come."""

    players: dict[str, nn.Module]
    optimizers: dict[str, torch.optim.Optimizer]
    average: AveragedModel | None = None
    """of the model's weights, where the recipe keeps that"""
    step: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    """of this epoch's metrics, over its steps so far"""
    history: list[dict[str, float]] = field(default_factory=list)
    best: dict[str, Any] | None = None
    """score, metrics and weights of the best epoch, those of the helpers too"""

    @classmethod
    def fresh(cls, plan: Plan, accelerator: Accelerator) -> "RunState":
        """Before the first step, on the accelerator's device."""
        setup, device = plan.recipe.setup, accelerator.device
        torch.manual_seed(seed_of(plan.seed, "weights", 0))
        model = make(setup.arch, plan.split.shape, plan.split.classes, mean=setup.mean, std=setup.std)
        if plan.init is not None:
            carrier(model).load_state_dict(plan.init, strict=False)  # without a head, where that is another
        beside = plan.recipe.defense.helpers(model, plan.split.shape, plan.split.classes)
        players = {MODEL: Helper(model, optimizer(setup, model)), **beside}
        average = averaged(setup, model, device)
        networks, optimizers = {}, {}
        for name, player in players.items():
            # evaluation mode is without the DDP wrapper, whose bookkeeping repeated forwards upset
            networks[name] = accelerator.prepare_model(player.network, evaluation_mode=True)
            if device.type == "cpu":
                networks[name] = networks[name].to(memory_format=torch.channels_last)  # measured to pay there
            optimizers[name] = player.optimizer
        return cls(networks, optimizers, average)

    def player(self, name: str) -> nn.Module:
        """The network itself, without what the accelerator put around it."""
        network: nn.Module = extract_model_from_parallel(self.players[name], keep_fp32_wrapper=True)
        return network

    def kept_player(self, name: str) -> nn.Module:
        """The network whose weights are kept: the model's average once that has begun, where there is one."""
        begun = self.average is not None and bool(self.average.n_averaged)
        return self.average.module if self.average and begun and name == MODEL else self.player(name)

    def clear(self) -> None:
        """Forgets the gradients of all players."""
        for each in self.optimizers.values():
            each.zero_grad()

    def differentiate(self, losses: Mapping[str, Tensor]) -> None:
        """Adds each loss's gradients to those of its own player only, all before any player moves."""
        for position, (name, loss) in enumerate(losses.items()):
            parameters = [parameter for parameter in self.players[name].parameters() if parameter.requires_grad]
            loss.backward(inputs=parameters, retain_graph=position + 1 < len(losses))  # type: ignore[no-untyped-call]

    def move(self, names: Iterable[str], rate: float, longest: float | None) -> None:
        """Takes a step of these players' optimizers, the model's at the learning rate `rate` along a gradient of at
        most the norm `longest`."""
        for group in self.optimizers[MODEL].param_groups:
            group["lr"] = rate
        if longest is not None:
            nn.utils.clip_grad_norm_(self.players[MODEL].parameters(), longest)
        for name in names:
            self.optimizers[name].step()

    def take_into_average(self) -> None:
        """Counts the model's weights, as they are now, in the average that is kept."""
        assert self.average is not None
        self.average.update_parameters(self.player(MODEL))

    def count(self, metrics: Mapping[str, float]) -> None:
        """Counts a step, whose metrics these are."""
        self.step += 1
        for name, value in metrics.items():
            self.sums[name] = self.sums.get(name, 0.0) + value

    def save(self, path: Path, plan: Plan) -> None:
        """Writes what `resume` needs."""
        key = plan.key()
        checkpoint.save_document(path, {"plan": fingerprint(key), "key": key, **self._state()})

    def resume(self, path: Path, plan: Plan) -> None:
        """Goes on from what was saved. Raises UserError where that is of another training."""
        state, key = checkpoint.read(path), plan.key()
        if state.get("plan") != fingerprint(key):
            raise UserError(
                f"{path} is of another training ({difference(state.get('key'), key)}); remove it, or train "
                "without --resume"
            )
        self._restore(state)

    def _state(self) -> dict[str, Any]:
        return {
            "players": {name: network.state_dict() for name, network in self.players.items()},
            "optimizers": {name: optimizer.state_dict() for name, optimizer in self.optimizers.items()},
            "average": self.average.state_dict() if self.average else None,
            "step": self.step,
            "sums": self.sums,
            "history": self.history,
            "best": self.best,
        }

    def _restore(self, state: dict[str, Any]) -> None:
        for name, network in self.players.items():
            network.load_state_dict(state["players"][name])
            self.optimizers[name].load_state_dict(state["optimizers"][name])
        if self.average:
            self.average.load_state_dict(state["average"])
        self.step, self.sums = state["step"], state["sums"]
        self.history, self.best = state["history"], state["best"]
