"""The training loop that every defense shares."""

import math
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import InitProcessGroupKwargs
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from robench.data import resize
from robench.data.datasets import Split
from robench.models import architecture, build, checkpoint
from robench.models.checkpoint import Card, weights_fingerprint
from robench.models.description import describe
from robench.models.transformed import as_network
from robench.threat import ThreatModel
from robench.training import epoch_log as metrics_file
from robench.training.defense import LABELLED, MODEL, Helper, Step
from robench.training.distributed import TIMEOUT, DistributedWarning, Processes, differences, running_statistics
from robench.training.optim import averaged, learning_rate, optimizer
from robench.training.recipe import Recipe
from robench.training.rng import BatchGenerator
from robench.training.selection import held_out_accuracy
from robench.training.streams import Streams
from robench.utils.code import code_fingerprint
from robench.utils.deadline import Deadline, OutOfTime
from robench.utils.errors import UserError
from robench.utils.files import make_folder
from robench.utils.fingerprints import fingerprint
from robench.utils.memory import keep_memory
from robench.utils.versions import used_versions

SAVE_SECONDS = 60.0
"""A killed training loses at most this long."""


class Progress(Protocol):
    """Is told how a training goes: the steps so far, the loss, the images that went through the model in this run."""

    def begin(self, name: str, steps: int, done: int) -> None: ...
    def advance(self, step: int, loss: float, passes: int) -> None: ...
    def epoch(self, metrics: Mapping[str, float]) -> None: ...
    def end(self) -> None: ...


class Silent:
    """Tells nobody."""

    def begin(self, name: str, steps: int, done: int) -> None: ...
    def advance(self, step: int, loss: float, passes: int) -> None: ...
    def epoch(self, metrics: Mapping[str, float]) -> None: ...
    def end(self) -> None: ...


@dataclass(frozen=True)
class Plan:
    """A training run with everything that could change its weights, but for the device, its thread count and the number
    of processes.

    `split` is the training part; `limit` takes the first so many of what `holdout` leaves.
    """

    recipe: Recipe
    dataset: str
    split: Split
    limit: int | None = None
    seed: int = 0
    precision: str = "float32"
    init: Mapping[str, Tensor] | None = None
    target: Split | None = None
    """the training part of the domain to adapt to, in the shape of `split`"""

    def __post_init__(self) -> None:
        if self.precision not in ("float32", "bfloat16"):
            raise UserError(f"expected the precision float32 or bfloat16, got {self.precision!r}")
        if self.seed < 0:
            raise UserError(f"expected a seed of at least 0, got {self.seed}")
        if self.limit is not None and self.limit < 1:
            raise UserError(f"expected a limit of at least 1 image, got {self.limit}")
        if self.recipe.setup.holdout >= len(self.split):
            raise UserError(
                f"expected a holdout below the {len(self.split)} training images, got {self.recipe.setup.holdout}"
            )

    def describe(self) -> dict[str, Any]:
        """The recipe as it is run, JSON-like; a leaderboard shows the newest of those that agree in it and the seed."""
        return {
            **self.recipe.describe(),
            "limit": self.limit,
            "precision": self.precision,
            "init": weights_fingerprint(self.init) if self.init else None,
            **({"source": self.dataset} if self.target else {}),
        }

    def key(self) -> dict[str, Any]:
        """Everything that could change its weights, by what it is called where two trainings differ."""
        return {**self.describe(), "seed": self.seed, **self.inputs}

    @cached_property
    def inputs(self) -> dict[str, Any]:
        """What of its key no recipe tells: the images, and all code that makes the weights."""
        code = {
            "defense": describe(type(self.recipe.defense)),
            "network": describe(architecture(self.recipe.setup.arch)),
        }
        return {
            "data": [split.fingerprint for split in (self.split, self.target) if split],
            "source": {
                "engine": code_fingerprint(Path(__file__)),
                **{name: each.fingerprint for name, each in code.items()},
            },
            **({"alone": uuid4().hex} if any(each.hidden for each in code.values()) else {}),
        }

    @property
    def evaluated(self) -> str:
        """The data set that the model is for, in its shape: its own, or the target's."""
        target = self.recipe.setup.target_domain
        if self.target is None or target is None:
            return self.dataset
        _, shape = resize.named(self.target.name.removesuffix(" (train)"))
        return resize.name_of(target, shape) if shape else target

    @property
    def name(self) -> str:
        """A file name that tells what it is, and differs where anything does."""
        dataset = self.dataset.partition(":")[0]
        return f"{dataset}-{Path(self.recipe.name).stem}-s{self.seed}-{fingerprint(self.key())[:6]}"


@dataclass
class _Run:
    """The state of a training run: what a resumed one needs to go on to the bit."""

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

    def state(self) -> dict[str, Any]:
        return {
            "players": {name: network.state_dict() for name, network in self.players.items()},
            "optimizers": {name: optimizer.state_dict() for name, optimizer in self.optimizers.items()},
            "average": self.average.state_dict() if self.average else None,
            "step": self.step,
            "sums": self.sums,
            "history": self.history,
            "best": self.best,
        }

    def restore(self, state: dict[str, Any]) -> None:
        for name, network in self.players.items():
            network.load_state_dict(state["players"][name])
            self.optimizers[name].load_state_dict(state["optimizers"][name])
        if self.average:
            self.average.load_state_dict(state["average"])
        self.step, self.sums = state["step"], state["sums"]
        self.history, self.best = state["history"], state["best"]


def train(
    plan: Plan,
    out: Path,
    *,
    device: str = "cpu",
    resume: bool = False,
    progress: Progress | None = None,
    save_seconds: float = SAVE_SECONDS,
    deadline: Deadline | None = None,
) -> Card:
    """Trains, and writes the checkpoint `out`; while it runs, `out`.state holds what resuming needs. At the deadline it
    saves that and raises `OutOfTime`.

    The order of the images is a function of (seed, epoch), every draw of (seed, step): on one device and thread count
    a resumed run ends with the weights of an uninterrupted one, to the bit. Started in several processes, each calls
    this alike; see `robench/distributed.py`.
    """
    keep_memory()
    AcceleratorState._reset_state(True)  # it is global, and would keep an earlier run's precision
    accelerator = Accelerator(
        cpu=device == "cpu",
        mixed_precision="bf16" if plan.precision == "bfloat16" else "no",
        kwargs_handlers=[InitProcessGroupKwargs(timeout=TIMEOUT)],
    )
    devices = [accelerator.device] if accelerator.device.type == "cuda" else []
    if out.is_dir() or not out.name:
        raise UserError(f"expected a file to write the checkpoint to, got the folder {out}")
    make_folder(out.parent)
    with torch.random.fork_rng(devices=devices), torch.backends.cudnn.flags(benchmark=False, deterministic=True):
        return _Loop(plan, out, accelerator, progress or Silent(), save_seconds, deadline).run(resume)


class _Loop:
    def __init__(
        self,
        plan: Plan,
        out: Path,
        accelerator: Accelerator,
        progress: Progress,
        save_seconds: float,
        deadline: Deadline | None = None,
    ) -> None:
        self.plan, self.out, self.accelerator = plan, out, accelerator
        self.processes = Processes.of(accelerator)
        self.share = self.processes.share(plan.recipe.setup.batch_size)
        self.progress = progress if self.processes.main else Silent()
        self.save_seconds, self.deadline = save_seconds, deadline
        self.setup, self.defense, self.device = plan.recipe.setup, plan.recipe.defense, accelerator.device
        self.split, self.held_out, self.rows = self._divide()
        seeds = partial(_seed, plan.seed)
        self.streams = Streams.of(self.defense.streams, self.setup, self.split, self._target(), seeds, self.share)
        self.steps_per_epoch = self.streams.steps_per_epoch
        self.state_file = out.with_name(out.name + ".state")
        self.metrics_path = out.with_name(out.name + ".metrics.csv")
        self.classes = plan.split.classes
        self.run_state = self._fresh()
        self.passes = self.passes_before = 0
        self.epoch_began = time.monotonic()
        as_network(self._player(MODEL)).normalize.register_forward_pre_hook(self._count)

    def run(self, resume: bool) -> Card:
        run, total = self.run_state, self.setup.epochs * self.steps_per_epoch
        if resume and self.state_file.is_file():
            self._restore()
        elif resume and self.out.is_file():
            return finished(self.plan, self.out)
        self._meet()
        saved = self.epoch_began = time.monotonic()
        self.progress.begin(self.plan.recipe.name, total, run.step)
        try:
            while run.step < total:
                self._step()
                if run.step % self.steps_per_epoch == 0:
                    self._end_epoch()
                late = self._late()
                save = self.processes.main and (late or time.monotonic() - saved >= self.save_seconds)
                if save and run.step < total:
                    self._save_state()
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
        run = self.run_state
        epoch, position = divmod(run.step, self.steps_per_epoch)
        generator = BatchGenerator(self.device, _seed(self.plan.seed, "step", run.step), self.share)
        draw = run.step * self.processes.count + self.processes.index
        _seed_layers(self.device, _seed(self.plan.seed, "layers", draw))
        batch = self.streams.batch(run.step, generator)
        fraction = epoch + position / self.steps_per_epoch
        step = Step(run.players, self._threat(fraction), generator, fraction, share=self.share)
        for network in run.players.values():
            network.train()
        with self.defense.around_update(batch, step):
            losses = self.defense.losses(batch, step)
            self._differentiate(losses)
        values = self._over_batch(losses, step.metrics)
        self._move(losses, fraction)
        run.step += 1
        for name, value in values.items():
            run.sums[name] = run.sums.get(name, 0.0) + value
        self.progress.advance(run.step, values["loss"], self.passes)

    def _count(self, module: nn.Module, inputs: tuple[Tensor]) -> None:
        self.passes += len(inputs[0]) * self.processes.count

    def _differentiate(self, losses: Mapping[str, Tensor]) -> None:
        """Each loss gives gradients to its own player only, all before any player moves."""
        run = self.run_state
        for position, (name, loss) in enumerate(losses.items()):
            run.optimizers[name].zero_grad()
            parameters = [parameter for parameter in run.players[name].parameters() if parameter.requires_grad]
            loss.backward(inputs=parameters, retain_graph=position + 1 < len(losses))  # type: ignore[no-untyped-call]

    def _over_batch(self, losses: Mapping[str, Tensor], metrics: Mapping[str, Tensor]) -> dict[str, float]:
        """Averages gradients, running statistics, losses and metrics over the processes that share the batch. Of the
        last two it gives the values, once they are known to be finite: the only wait for the device in a step."""
        shown = {name: "loss" if name == MODEL else f"{name}_loss" for name in losses}
        named = {**{shown[name]: loss for name, loss in losses.items()}, **metrics}
        values = torch.stack([value.detach().float().to(self.device) for value in named.values()])
        if self.processes.count > 1:
            players = [self.run_state.players[name] for name in losses]
            gradients = [each.grad for player in players for each in player.parameters() if each.grad is not None]
            self.share.average([*gradients, *running_statistics(self.run_state.players.values()), values])
        found = dict(zip(named, values.tolist(), strict=True))
        for name in losses:
            if not math.isfinite(found[shown[name]]):
                raise UserError(
                    f"the loss of {name} is {found[shown[name]]} at step {self.run_state.step}, so training stopped; "
                    "lower the learning rate (--set lr=...) or warm the radius up (--set eps_warmup=...); "
                    f"{self._kept()}"
                )
        return found

    def _move(self, losses: Mapping[str, Tensor], epoch: float) -> None:
        run = self.run_state
        for group in run.optimizers[MODEL].param_groups:
            group["lr"] = learning_rate(self.setup, epoch)
        for name in losses:
            run.optimizers[name].step()
        if run.average:
            run.average.update_parameters(self._player(MODEL))

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
        metrics = {name: total / self.steps_per_epoch for name, total in run.sums.items()}
        metrics |= {"epoch": run.step // self.steps_per_epoch, **self._validate()}
        run.sums = {}
        run.history.append(metrics)
        score = (metrics.get(self.setup.select, 0.0), metrics.get("clean", 0.0))
        warming = metrics["epoch"] < self.setup.eps_warmup  # the adversary is not yet the one trained for
        if run.best is None or run.best["warming"] or score >= tuple(run.best["score"]) or self.setup.select == "last":
            weights = {name: checkpoint.cpu_weights(self._kept_player(name)) for name in run.players}
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
        generator = BatchGenerator(self.device, _seed(self.plan.seed, "validate", 0), self.share)
        model = self._kept_player(MODEL) if self.run_state.average else self.run_state.players[MODEL]
        return held_out_accuracy(model, self.held_out, self.plan.recipe.threat, generator)

    # Before and after

    def _divide(self) -> tuple[Split, Split | None, Tensor]:
        """The images trained on and those held out, which a fixed shuffle chooses, whatever the seed; and the rows of
        the first."""
        everything, setup = self.plan.split, self.setup
        shuffled = torch.randperm(len(everything), generator=torch.Generator().manual_seed(0))
        held_out = shuffled[: setup.holdout].sort().values
        trained = shuffled[setup.holdout :].sort().values[: self.plan.limit]
        return (
            everything.take(trained).to(self.device),
            everything.take(held_out).to(self.device) if setup.holdout else None,
            trained,
        )

    def _target(self) -> Split | None:
        target = self.plan.target
        return target.take(slice(self.plan.limit)).to(self.device) if target else None

    def _fresh(self) -> _Run:
        setup, plan = self.setup, self.plan
        torch.manual_seed(_seed(plan.seed, "weights", 0))
        model = build(setup.arch, plan.split.shape, self.classes, mean=setup.mean, std=setup.std)
        if plan.init is not None:
            checkpoint.load_weights(model, plan.init, "--init")
        beside = self.defense.helpers(model, plan.split.shape, self.classes)
        players = {MODEL: Helper(model, optimizer(setup, model)), **beside}
        average = averaged(model, setup.average, self.device) if setup.average is not None else None
        networks, optimizers = {}, {}
        for name, player in players.items():
            # evaluation mode is without the DDP wrapper, whose bookkeeping repeated forwards upset
            networks[name] = self.accelerator.prepare_model(player.network, evaluation_mode=True)
            if self.device.type == "cpu":
                networks[name] = networks[name].to(memory_format=torch.channels_last)  # measured to pay there
            optimizers[name] = player.optimizer
        return _Run(networks, optimizers, average)

    def _meet(self) -> None:
        """Sees that all processes begin alike, and says where several are not as one."""
        processes, setup = self.processes, self.setup
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

    def _player(self, name: str) -> nn.Module:
        return self.accelerator.unwrap_model(self.run_state.players[name], keep_fp32_wrapper=True)  # type: ignore[no-any-return]

    def _kept_player(self, name: str) -> nn.Module:
        """The network whose weights are kept: the model's average where there is one."""
        average = self.run_state.average
        return average.module if average and name == MODEL else self._player(name)

    def _save_state(self) -> None:
        key = self.plan.key()
        checkpoint.save_document(self.state_file, {"plan": fingerprint(key), "key": key, **self.run_state.state()})

    def _restore(self) -> None:
        state = checkpoint.read(self.state_file)
        key = self.plan.key()
        if state.get("plan") != fingerprint(key):
            raise UserError(
                f"{self.state_file} is of another training ({_difference(state.get('key'), key)}); remove it, or train "
                "without --resume"
            )
        self.run_state.restore(state)

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
            classes=self.classes,
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
        model = self._player(MODEL)
        model.load_state_dict(best["weights"].pop(MODEL))
        checkpoint.save(out, model, card, best["weights"])
        return card

    def _labelled_rows(self) -> list[int]:
        """Of the images that kept their label, in the order of the whole training set; none where all did."""
        chosen = self.streams.labelled_rows
        return [] if chosen is None else self.rows[chosen].tolist()


def _seed_layers(device: torch.device, seed: int) -> None:
    """For dropout and other layers that draw. (`torch.manual_seed` also asks every kind of device, for 0.4 ms.)"""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)


def _seed(seed: int, purpose: str, index: int) -> int:
    """An independent seed for each purpose and index."""
    return int(fingerprint({"seed": seed, "purpose": purpose, "index": index}), 16) >> 1


def finished(plan: Plan, path: Path) -> Card:
    """The card of the checkpoint, which must be what this training would end in."""
    card = checkpoint.card_of(checkpoint.read(path))
    if card is None:
        raise UserError(f"{path} is no checkpoint of robench's; name another --out to keep both")
    made, key = {**card.recipe, "seed": card.seed, **card.inputs}, plan.key()
    if fingerprint(made) != fingerprint(key):
        raise UserError(f"{path} is of another training ({_difference(made, key)}); name another --out to keep both")
    return card


def _difference(made: Mapping[str, Any] | None, wanted: Mapping[str, Any]) -> str:
    """What differs between the keys of two trainings, for people; the settings by their names and values."""
    if made is None:
        return "an earlier version of robench began it"
    if "data" not in made and "source" not in made:
        return "an earlier version of robench made it, which did not note its images and code"
    found = []
    for name in sorted({*made, *wanted}):
        old, new = made.get(name), wanted.get(name)
        if old == new:
            continue
        if name in ("setup", "settings") and isinstance(old, Mapping) and isinstance(new, Mapping):
            changed = sorted(key for key in {*old, *new} if old.get(key) != new.get(key))
            found += [f"{key} {old.get(key)}, not {new.get(key)}" for key in changed]
        elif name in _WORDS:
            found.append(_WORDS[name])
        else:
            found.append(f"{name} {old}, not {new}")
    return "; ".join(found)


_WORDS = {
    "data": "other training images",
    "source": "other code",
    "init": "other weights to begin with",
    "alone": "its code cannot be fully described, so it cannot be told whether it is the same",
}
