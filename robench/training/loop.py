"""The training loop that every defense shares."""

import math
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

from robench.data.datasets import Split, joined
from robench.models import checkpoint
from robench.models.checkpoint import Card
from robench.models.network import Normalize
from robench.threat import ThreatModel
from robench.training import epoch_log as metrics_file
from robench.training.accelerator import accelerated
from robench.training.defense import LABELLED, MODEL, Defense, Step
from robench.training.difference import difference
from robench.training.distributed import DistributedWarning, Processes, Share, differences, running_statistics
from robench.training.optim import learning_rate
from robench.training.plan import Plan
from robench.training.rng import BatchGenerator
from robench.training.run_state import RunState
from robench.training.seeds import seed_layers, seed_of
from robench.training.selection import held_out_accuracy
from robench.training.soft_labels import softened
from robench.training.streams import Streams, divided
from robench.utils.deadline import Deadline, OutOfTime
from robench.utils.errors import UserError
from robench.utils.files import make_folder
from robench.utils.fingerprints import fingerprint
from robench.utils.global_rng import repeatable_convolutions
from robench.utils.memory import keep_memory
from robench.utils.versions import used_versions

SAVE_SECONDS = 60.0
"""A killed training loses at most this long."""


class TrainingProgress(Protocol):
    """Shows how a training goes: the steps so far, the loss, the images that went through the model in this run."""

    def begin(self, name: str, steps: int, done: int) -> None: ...
    def advance(self, step: int, loss: float, passes: int) -> None: ...
    def epoch(self, metrics: Mapping[str, float]) -> None: ...
    def end(self) -> None: ...


class SilentTraining:
    """Ignores what it is told."""

    def begin(self, name: str, steps: int, done: int) -> None: ...
    def advance(self, step: int, loss: float, passes: int) -> None: ...
    def epoch(self, metrics: Mapping[str, float]) -> None: ...
    def end(self) -> None: ...


def train(
    plan: Plan,
    out: Path,
    *,
    device: str = "cpu",
    resume: bool = False,
    progress: TrainingProgress | None = None,
    save_seconds: float = SAVE_SECONDS,
    deadline: Deadline | None = None,
) -> Card:
    """Trains, and writes the checkpoint `out`; while it runs, `out`.state holds what resuming needs. At the deadline it
    saves that and raises `OutOfTime`.

    The order of the images is a function of (seed, epoch), every draw of (seed, step): on one device and thread count
    a resumed run ends with the weights of an uninterrupted one, to the bit. Started in several processes, each calls
    this alike; see `robench/training/distributed.py`.
    """
    keep_memory()
    if out.is_dir() or not out.name:
        raise UserError(f"expected a file to write the checkpoint to, got the folder {out}")
    make_folder(out.parent)
    precision = "bf16" if plan.precision == "bfloat16" else "no"
    with accelerated(cpu=device == "cpu", mixed_precision=precision) as accelerator:
        devices = [accelerator.device] if accelerator.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices), repeatable_convolutions():
            loop = _Loop(plan, out, accelerator, progress or SilentTraining(), save_seconds, deadline)
            return loop.run(resume)


class _Loop:
    def __init__(
        self,
        plan: Plan,
        out: Path,
        accelerator: Accelerator,
        progress: TrainingProgress,
        save_seconds: float,
        deadline: Deadline | None = None,
    ) -> None:
        self.plan, self.out = plan, out
        self.processes = Processes.of(accelerator)
        self.share = self.processes.share(plan.recipe.setup.batch_size)
        self.shares = self.share.divided(plan.recipe.setup.accumulation or 1)
        self.progress = progress if self.processes.main else SilentTraining()
        self.save_seconds, self.deadline = save_seconds, deadline
        self.setup, self.defense, self.device = plan.recipe.setup, plan.recipe.defense, accelerator.device
        self.rows, held_out = divided(len(plan.split), self.setup.holdout, plan.limit)
        self.split = joined(plan.split.take(self.rows), plan.extra).to(self.device)
        self.held_out = plan.split.take(held_out).to(self.device) if self.setup.holdout else None
        seeds = partial(seed_of, plan.seed)
        self.streams = Streams.of(self.defense.streams, self.setup, self.split, self._target(), seeds)
        self.steps_per_epoch = self.streams.steps_per_epoch
        self.state_file = out.with_name(out.name + ".state")
        self.metrics_path = out.with_name(out.name + ".metrics.csv")
        self.run_state = RunState.fresh(plan, accelerator)
        self.passes = self.passes_before = 0
        self.epoch_began = time.monotonic()
        normalize = self.run_state.player(MODEL).normalize
        assert isinstance(normalize, Normalize)
        normalize.register_forward_pre_hook(self._count)

    def run(self, resume: bool) -> Card:
        run, total = self.run_state, self.setup.epochs * self.steps_per_epoch
        if resume and self.state_file.is_file():
            run.resume(self.state_file, self.plan)
        elif resume and self.out.is_file():
            return finished(self.plan, self.out)
        self._meet()
        saved = self.epoch_began = time.monotonic()
        self.progress.begin(self.plan.recipe.name, total, run.step)
        try:
            while run.step < total and not self._stale():
                self._step()
                if run.step % self.steps_per_epoch == 0:
                    self._end_epoch()
                late = self._late()
                save = self.processes.main and (late or time.monotonic() - saved >= self.save_seconds)
                if save and run.step < total:
                    run.save(self.state_file, self.plan)
                    saved = time.monotonic()
                if late and run.step < total:
                    raise OutOfTime
        finally:
            self.progress.end()
        return self._finish()

    def _late(self) -> bool:
        """Whether some process's time is over: then all of them stop after the same step."""
        return self.deadline is not None and any(self.processes.gather(self.deadline.passed))

    # One step

    def _step(self) -> None:
        run, setup = self.run_state, self.setup
        epoch, position = divmod(run.step, self.steps_per_epoch)
        fraction = epoch + position / self.steps_per_epoch
        draw = run.step * self.processes.count + self.processes.index
        seed_layers(self.device, seed_of(self.plan.seed, "layers", draw))
        for network in run.players.values():
            network.train()
        run.clear()
        parts = [self._differentiated(share, fraction) for share in self.shares]
        values = self._over_batch(parts)
        run.move(parts[0].losses, learning_rate(setup, fraction, 1 / self.steps_per_epoch), setup.clip_gradient)
        if setup.average is not None:
            run.take_into_average()
        run.count(values)
        self.progress.advance(run.step, values["loss"], self.passes)

    def _differentiated(self, share: Share, fraction: float) -> "_BatchPart":
        """A share of the batch, whose gradients have been added to those of the others."""
        run = self.run_state
        generator = BatchGenerator(self.device, seed_of(self.plan.seed, "step", run.step), share)
        batch = softened(self.streams.batch(run.step, generator), self.setup, self.plan.split.classes)
        step = Step(run.players, self._threat(fraction), generator, fraction, share=share)
        with self.defense.around_update(batch, step):
            losses = self.defense.losses(batch, step)
            run.differentiate({name: loss * share.weight for name, loss in losses.items()})
        return _BatchPart(share, losses, step.metrics)

    def _count(self, module: nn.Module, inputs: tuple[Tensor]) -> None:
        self.passes += len(inputs[0]) * self.processes.count

    def _over_batch(self, parts: Sequence["_BatchPart"]) -> dict[str, float]:
        """Averages gradients, running statistics, losses and metrics over all that share the batch. Of the last two it
        gives the values, once they are known to be finite: the only wait for the device in a step."""
        losses = parts[0].losses
        values = torch.stack([part.values(self.device) * part.share.weight for part in parts]).sum(0)
        if self.processes.count > 1:
            players = [self.run_state.players[name] for name in losses]
            gradients = [each.grad for player in players for each in player.parameters() if each.grad is not None]
            self.share.average([*gradients, *running_statistics(self.run_state.players.values()), values])
        found = dict(zip(parts[0].names, values.tolist(), strict=True))
        for name in losses:
            if not math.isfinite(found[_shown(name)]):
                raise UserError(
                    f"the loss of {name} is {found[_shown(name)]} at step {self.run_state.step}, so training stopped; "
                    "lower the learning rate (--set lr=...) or warm the radius up (--set eps_warmup=...); "
                    f"{self._kept()}"
                )
        return found

    def _kept(self) -> str:
        """Saves the best epoch so far beside where the checkpoint would have been, and says so."""
        if self.run_state.best is None:
            return "no epoch had ended, so there is nothing to keep"
        kept = self.out.with_name(f"{self.out.stem}.last-good{self.out.suffix}")
        self._write(kept)
        self.processes.gather(None)  # a launcher ends the first process as soon as another has stopped
        return f"the best epoch before is kept in {kept}"

    def _threat(self, epoch: float) -> ThreatModel:
        threat = self.plan.recipe.threat
        warmup = self.setup.eps_warmup
        if epoch >= warmup:
            return threat
        share = (epoch + 1 / self.steps_per_epoch) / (warmup + 1 / self.steps_per_epoch)
        return ThreatModel.of(threat.norm, threat.eps * share)

    # One epoch

    def _end_epoch(self) -> None:
        run = self.run_state
        if self.setup.swa_from is not None and run.step // self.steps_per_epoch > self.setup.swa_from:
            self._average_epoch()
        metrics = {name: total / self.steps_per_epoch for name, total in run.sums.items()}
        metrics |= {"epoch": run.step // self.steps_per_epoch, **self._validate()}
        run.sums = {}
        run.history.append(metrics)
        score = (metrics.get(self.setup.select, 0.0), metrics.get("clean", 0.0))
        warming = metrics["epoch"] < self.setup.eps_warmup  # the adversary is not yet the one trained for
        if run.best is None or run.best["warming"] or score >= tuple(run.best["score"]) or self.setup.select == "last":
            weights = {name: checkpoint.cpu_weights(run.kept_player(name)) for name in run.players}
            run.best = {"score": list(score), "warming": warming, "metrics": metrics, "weights": weights}
        self.progress.epoch(metrics)
        now = time.monotonic()
        rates = {"seconds": now - self.epoch_began, "passes": self.passes - self.passes_before}
        if self.processes.main:
            metrics_file.append(self.metrics_path, {"epoch": metrics["epoch"], **metrics, **rates})
        self.epoch_began, self.passes_before = now, self.passes

    def _validate(self) -> dict[str, float]:
        """On the images held out, at the full radius."""
        if self.held_out is None:
            return {}
        generator = BatchGenerator(self.device, seed_of(self.plan.seed, "validate", 0), self.share)
        run = self.run_state
        model = run.kept_player(MODEL) if run.average else run.players[MODEL]
        return held_out_accuracy(model, self.held_out, self.plan.recipe.threat, generator)

    def _stale(self) -> bool:
        """Whether the best epoch lies as far back as patience goes."""
        best, patience = self.run_state.best, self.setup.patience
        if patience is None or best is None or best["warming"]:
            return False
        return bool(self.run_state.history[-1]["epoch"] - best["metrics"]["epoch"] >= patience)

    def _average_epoch(self) -> None:
        """Counts the weights at the end of an epoch in their mean, and takes batch norm's statistics under it."""
        self.run_state.take_into_average()
        batches = torch.arange(len(self.split), device=self.device).split(self.setup.batch_size)  # type: ignore[no-untyped-call]
        with torch.no_grad():
            update_bn((self.split.floats(rows) for rows in batches), self.run_state.kept_player(MODEL))

    # Before and after

    def _target(self) -> Split | None:
        target = self.plan.target
        return target.take(slice(self.plan.limit)).to(self.device) if target else None

    def _meet(self) -> None:
        """Sees that all that share a batch begin alike, and says where they are not as one process with all of it."""
        processes, setup = self.processes, self.setup
        if len(self.shares) > 1:
            self._check_parts()
        if processes.count == 1:
            return
        if processes.count > setup.batch_size:
            raise UserError(
                f"expected at most {setup.batch_size} processes, one for each image of a batch, got {processes.count}"
            )
        if tuple(self.defense.streams) != (LABELLED,):
            raise UserError(
                f"expected a defense of labelled images alone for several processes, got {self.plan.recipe.name}, "
                "which draws on others too; train it in one process"
            )
        processes.agree("training", f"{self.plan.name} at step {self.run_state.step}")
        found = differences(self.run_state.players.values(), self.defense.couples)
        if found and processes.main:
            warnings.warn(
                f"{processes.count} processes share each batch, and the weights will differ from those of one by more "
                f"than rounding: {', '.join(found)}",
                DistributedWarning,
                stacklevel=4,
            )

    def _check_parts(self) -> None:
        """Refuses to take a batch in parts where its losses or its update need it whole."""
        couples = self.defense.couples or type(self.defense).around_update is not Defense.around_update
        if self.processes.count > 1:
            raise UserError("several processes share a batch already; expected no accumulation beside them")
        if couples or tuple(self.defense.streams) != (LABELLED,):
            raise UserError(f"{self.plan.recipe.name} looks across the batch, so that accumulation cannot part it")

    def _finish(self) -> Card:
        card = self._write(self.out)
        if self.processes.main:
            self.state_file.unlink(missing_ok=True)
        self.processes.gather(None)  # the checkpoint is there when any process says so
        return card

    def _write(self, out: Path) -> Card:
        """The best epoch as a checkpoint."""
        setup, plan, best = self.setup, self.plan, self.run_state.best
        assert best is not None
        card = Card(
            arch=setup.arch,
            shape=list(plan.split.shape),
            classes=plan.split.classes,
            mean=setup.mean,
            std=setup.std,
            dataset=plan.evaluated,
            norm=setup.norm,
            eps=str(setup.eps),
            defense=plan.recipe.name,
            recipe=plan.describe(),
            seed=plan.seed,
            metrics={"best": best["metrics"], "history": self.run_state.history},
            versions=used_versions(),
            processes=self.processes.count,
            labelled=self._labelled_rows(),
            inputs=plan.inputs,
        )
        if not self.processes.main:
            return card
        model = self.run_state.player(MODEL)
        model.load_state_dict(best["weights"].pop(MODEL))
        checkpoint.save(out, model, card, best["weights"])
        return card

    def _labelled_rows(self) -> list[int]:
        """Of the images that kept their label, in the order of the whole training set; none where all did."""
        chosen = self.streams.labelled_rows
        return [] if chosen is None else self.rows[chosen].tolist()


@dataclass(frozen=True)
class _BatchPart:
    """What a share of the batch gave."""

    share: Share
    losses: Mapping[str, Tensor]
    metrics: Mapping[str, Tensor]

    @property
    def names(self) -> list[str]:
        """Of the values, as they are shown."""
        return [*map(_shown, self.losses), *self.metrics]

    def values(self, device: torch.device) -> Tensor:
        """One of each name, over the share."""
        given = [*self.losses.values(), *self.metrics.values()]
        return torch.stack([value.detach().float().to(device) for value in given])


def _shown(player: str) -> str:
    """What the loss of a player is called."""
    return "loss" if player == MODEL else f"{player}_loss"


def finished(plan: Plan, path: Path) -> Card:
    """The card of the checkpoint, which must be what this training would end in."""
    card = checkpoint.card_of(checkpoint.read(path))
    if card is None:
        raise UserError(f"{path} is no checkpoint of robench's; name another --out to keep both")
    made, key = {**card.recipe, "seed": card.seed, **card.inputs}, plan.key()
    if fingerprint(made) != fingerprint(key):
        raise UserError(f"{path} is of another training ({difference(made, key)}); name another --out to keep both")
    return card
