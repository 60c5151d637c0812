"""How long a training step of each defense takes, beside the sum of its passes through the networks.

    uv run python benchmarks/speed/training.py [--defense NAME]... [--dataset digits|mnist]... [--repeats N]

A pass is a forward, a backward to the input, or a backward to the parameters, of the model or of a network trained
beside it. The first step counts them, by how many images ride in each; then steps and single passes of each kind take
turns. The ratio is the median step / (sum of count x median time of each kind): what it has above 1 are losses, draws,
projections, kernels and the optimizer. The digits train with their recipes' network and batch, MNIST with `small_cnn`
and batches of 32. Writes training.csv beside this file.
"""

import argparse
import csv
import platform
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any, Literal
from unittest.mock import patch

import torch
from torch import Tensor, nn

from robench.models.network import Network
from robench.training import recipe
from robench.training.defense import MODEL, TARGET, Batch, Defense, Step
from robench.training.inner_max import evaluating
from robench.training.loop import SilentTraining, train
from robench.training.plan import Plan, plan_training
from robench.utils.device import resolve_device

Kind = Literal["forward", "input", "parameters"]

SETTINGS: dict[str, dict[str, Any]] = {"digits": {}, "mnist": {"arch": "small_cnn", "batch_size": 32}}
WARM_UP = 2
"""Steps that are not timed; the first of them is counted."""

AT_ONCE = 4
"""So often at most a kind of pass is timed between two steps."""


@dataclass(frozen=True)
class Pass:
    """One kind of pass through one player, with so many images."""

    player: str
    kind: Kind
    images: int


class Watch:
    """Counts the passes of a step, and keeps an input of each size to repeat them with."""

    def __init__(self) -> None:
        self.players: Mapping[str, nn.Module] = {}
        self.passes: Counter[Pass] = Counter()
        self._seconds: dict[Pass, list[float]] = {}
        self._inputs: dict[tuple[str, int], tuple[Tensor, ...]] = {}
        self._asked: set[int] = set()
        self._hooks = ExitStack()

    def begin(self, players: Mapping[str, nn.Module]) -> None:
        self.players = players
        for name in ("grad", "backward"):
            original = getattr(torch.autograd, name)
            self._hooks.enter_context(patch.object(torch.autograd, name, self._noting_what_is_asked(original)))
        for name, network in players.items():
            entry = network.normalize if isinstance(network, Network) else network
            first = next(module for module in network.modules() if list(module.parameters(recurse=False)))
            self._hooks.callback(entry.register_forward_pre_hook(self._entered(name)).remove)
            self._hooks.callback(first.register_forward_hook(self._left_first_layer(name)).remove)

    def end(self) -> None:
        self._hooks.close()

    def _entered(self, name: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            images = len(inputs[0])
            self.passes[Pass(name, "forward", images)] += 1
            self._inputs[name, images] = tuple(each.detach() for each in inputs)

        return hook

    def _left_first_layer(self, name: str) -> Callable[..., None]:
        """A gradient that comes back to the first layer's output has gone through the whole network."""
        own = {id(parameter) for parameter in self.players[name].parameters()}

        def returned(gradient: Tensor) -> None:
            kind: Kind = "parameters" if own & self._asked else "input"
            self.passes[Pass(name, kind, len(gradient))] += 1

        def hook(module: nn.Module, inputs: object, output: Tensor) -> None:
            if output.requires_grad:
                output.register_hook(returned)

        return hook

    def _noting_what_is_asked(self, differentiate: Callable[..., Any]) -> Callable[..., Any]:
        def call(first: Any, *more: Any, **options: Any) -> Any:
            inputs = options["inputs"] if "inputs" in options else more[0]
            self._asked = {id(each) for each in ([inputs] if isinstance(inputs, Tensor) else inputs)}
            return differentiate(first, *more, **options)

        return call

    def time_passes(self) -> None:
        for one, count in self.passes.items():
            self._seconds.setdefault(one, []).extend(self._seconds_of(one) for _ in range(min(count, AT_ONCE)))

    def seconds(self) -> float:
        """What the passes of a step take, each by the median of its kind."""
        return sum(count * median(self._seconds[one]) for one, count in self.passes.items())

    def _seconds_of(self, one: Pass) -> float:
        network, inputs = self.players[one.player], self._inputs[one.player, one.images]
        if one.kind == "parameters":
            parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
            out = _sum(network.train()(*inputs))
            return _timed(lambda: torch.autograd.grad(out, parameters, allow_unused=True))
        with evaluating(network):
            if one.kind == "forward":
                return _timed(lambda: network(*inputs))
            x = inputs[0].detach().requires_grad_()
            out = _sum(network(x, *inputs[1:]))
            return _timed(lambda: torch.autograd.grad(out, x))


def _sum(output: Tensor | tuple[Tensor, ...]) -> Tensor:
    return output.sum() if isinstance(output, Tensor) else torch.stack([each.sum() for each in output]).sum()


def _timed(act: Callable[[], object]) -> float:
    began = _now()
    act()
    return _now() - began


def _now() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def watched(defense: Defense, watch: Watch) -> Defense:
    """The same defense, whose first step the watch counts."""
    kind: type[Defense] = type(defense)

    class Watched(kind):  # type: ignore[misc, valid-type]
        @contextmanager
        def around_update(self, batch: Batch, step: Step) -> Iterator[None]:
            if not watch.players:
                watch.begin(step.players)
            with super().around_update(batch, step):
                yield

    found: Defense = Watched(**{each.name: getattr(defense, each.name) for each in fields(defense)})
    return found


@dataclass
class Clock(SilentTraining):
    """Times each step, and the watch's passes after it."""

    watch: Watch
    steps: list[float] = field(default_factory=list)
    _began: float = 0.0

    def advance(self, step: int, loss: float, passes: int) -> None:
        self.watch.end()
        if step > WARM_UP:
            self.steps.append(_now() - self._began)
            self.watch.time_passes()
        self._began = _now()


def measure(plan: Plan, device: str) -> dict[str, Any]:
    """One row of the table; passes are of the model, in multiples of a batch."""
    watch = Watch()
    clock = Clock(watch)
    plan = replace(plan, recipe=replace(plan.recipe, defense=watched(plan.recipe.defense, watch)))
    with TemporaryDirectory() as folder:
        train(plan, Path(folder) / "timed.pt", device=device, progress=clock)
    step, passes = median(clock.steps), watch.seconds()
    batch = plan.recipe.setup.batch_size
    of_model: Counter[Kind] = Counter()
    for one, count in watch.passes.items():
        if one.player == MODEL:
            of_model[one.kind] += count * one.images
    return {
        "dataset": plan.dataset,
        "defense": plan.recipe.name,
        "arch": plan.recipe.setup.arch,
        "batch_size": batch,
        "precision": plan.precision,
        "forwards": round(of_model["forward"] / batch, 2),
        "input_backwards": round(of_model["input"] / batch, 2),
        "parameter_backwards": round(of_model["parameters"] / batch, 2),
        "players": len(watch.players),
        "step_ms": round(1000 * step, 2),
        "passes_ms": round(1000 * passes, 2),
        "ratio": round(step / passes, 3),
        "steps_timed": len(clock.steps),
    }


def planned(name: str, dataset: str, repeats: int, data_root: Path, precision: str) -> Plan:
    """A training of so many steps; a defense that adapts to another domain has its own images for that."""
    settings = {**SETTINGS[dataset], "epochs": 1, "eps_warmup": 0, "holdout": 0, "select": "last"}
    plan = plan_training(name, dataset=dataset, data_root=data_root, settings=settings, precision=precision)
    images = (WARM_UP + repeats) * plan.recipe.setup.batch_size
    target = plan.split.take(range(images)) if TARGET in plan.recipe.defense.streams else None
    return replace(plan, limit=images, target=target)


def machine(device: str) -> str:
    if device == "cuda":
        return f"{torch.cuda.get_device_name()}, torch {torch.__version__}"
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    kind = torch.backends.cpu.get_cpu_capability()
    return f"{model or platform.machine()} ({kind}), {torch.get_num_threads()} thread(s), torch {torch.__version__}"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--defense", action="append", choices=recipe.names(), help="by default every recipe's")
    parser.add_argument("--dataset", action="append", choices=list(SETTINGS), help="by default both")
    parser.add_argument("--repeats", type=int, default=5, help="steps timed of each")
    parser.add_argument("--device", help="cpu or cuda")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--data-root", type=Path, default=Path("data"))
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".csv"))
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    device = resolve_device(asked.device)
    where = machine(device)
    print(where)
    rows = []
    for dataset in asked.dataset or SETTINGS:
        for name in asked.defense or recipe.names():
            row = measure(planned(name, dataset, asked.repeats, asked.data_root, asked.precision), device)
            rows.append({**row, "machine": where})
            print(
                f"{dataset:<7} {name:<20} step {row['step_ms']:>8.1f} ms, passes {row['passes_ms']:>8.1f} ms, "
                f"ratio {row['ratio']:.2f}"
            )
    with asked.out.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
