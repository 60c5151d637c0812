"""The loop: what it learns, what it keeps, and that an interruption leaves no trace."""

import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from robench.data import datasets
from robench.evaluation.target import load_model
from robench.models import build, checkpoint
from robench.models.checkpoint import Card
from robench.training import epoch_log, recipe
from robench.training.defense import Batch, Defense, Helper, Step
from robench.training.loop import SilentTraining, _Loop, train
from robench.training.plan import Plan
from robench.training.seeds import seed_layers, seed_of
from robench.utils.errors import UserError
from tests import ROOT


def plan(name: str = "pgd_at", seed: int = 0, limit: int | None = 256, **changes: Any) -> Plan:
    split = datasets.load("digits", "train")
    settings = {"epochs": 3, "holdout": 100, "eps_warmup": 1, **changes}
    return Plan(recipe.resolve(name, "digits", split.shape, settings), "digits", split, limit=limit, seed=seed)


def with_target(planned: Plan, **settings: Any) -> Plan:
    """Adapting to the digits upside down."""
    test = datasets.load("digits", "test")
    domain = datasets.Split("digits (train)", test.images[:].flip(2), test.labels)
    setup = planned.recipe.setup.model_copy(update={"target_domain": "digits", **settings})
    return replace(planned, recipe=replace(planned.recipe, setup=setup), target=domain)


def with_defense(planned: Plan, defense: Defense) -> Plan:
    return replace(planned, recipe=replace(planned.recipe, defense=defense))


def weights(path: Path) -> dict[str, Tensor]:
    state: dict[str, Tensor] = checkpoint.read(path)["weights"]
    return state


def assert_equal_weights(first: Path, second: Path) -> None:
    a, b = weights(first), weights(second)
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("name", recipe.names())
def test_every_recipe_trains_and_its_checkpoint_loads(name: str, tmp_path: Path) -> None:
    planned = plan(name, epochs=2, limit=128, holdout=40)
    planned = with_target(planned) if "vada" in name else planned
    card = train(planned, tmp_path / "m.pt")
    assert 0 < card.metrics["history"][-1]["loss"] < 5
    subject = load_model(tmp_path / "m.pt")
    assert subject.card == card
    assert (card.defense, card.dataset, card.arch) == (name, "digits", planned.recipe.setup.arch)
    assert card.eps == {"linf": "0.2", "l2": str(planned.recipe.setup.eps)}[card.norm]
    assert not (tmp_path / "m.pt.state").exists()


def test_training_learns_to_withstand(tmp_path: Path) -> None:
    robust = train(plan(limit=None, epochs=15, eps_warmup=5, steps=3, step_size="eps/2"), tmp_path / "r.pt").metrics[
        "best"
    ]
    assert robust["clean"] > 0.85
    assert robust["robust"] > 0.4


def test_the_same_seed_gives_the_same_weights_and_another_does_not(tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        torch.rand(3)  # the caller's own draws must not matter
        train(plan("trades", seed=seed), tmp_path / f"{name}.pt")
    assert_equal_weights(tmp_path / "a.pt", tmp_path / "b.pt")
    assert not torch.equal(*(weights(tmp_path / name)["hidden.weight"] for name in ("a.pt", "c.pt")))


def test_the_callers_random_state_is_untouched(tmp_path: Path) -> None:
    before = torch.random.get_rng_state()
    train(plan(epochs=1), tmp_path / "m.pt")
    assert torch.equal(torch.random.get_rng_state(), before)


class Stop(Exception):  # noqa: N818
    """Ends a training from outside."""


class StopAt(SilentTraining):
    def __init__(self, step: int) -> None:
        self.step = step

    def advance(self, step: int, loss: float, passes: int) -> None:
        if step == self.step:
            raise Stop


def interrupted(planned: Plan, out: Path, *steps: int) -> Card:
    """The card of a training that was stopped at each of these steps, and resumed each time."""
    for step in steps:
        with pytest.raises(Stop):
            train(planned, out, progress=StopAt(step), save_seconds=0, resume=step > steps[0])
        assert not out.exists()
    assert checkpoint.read(out.with_name(f"{out.name}.state"))["step"] == steps[-1] - 1
    return train(planned, out, resume=True)


@pytest.mark.parametrize("name", ["ald_trades", "adt_exp"])
def test_an_interrupted_training_ends_as_the_uninterrupted_one(name: str, tmp_path: Path) -> None:
    """Four steps an epoch, so the interruptions fall within, at and after an epoch's end."""
    planned = plan(name)
    whole = train(planned, tmp_path / "whole.pt")
    assert interrupted(planned, tmp_path / "cut.pt", 1, 4, 6, 11) == whole
    assert_equal_weights(tmp_path / "whole.pt", tmp_path / "cut.pt")


SCRIPT = """
import os, signal, sys, time, torch
from pathlib import Path
from threading import Thread
torch.set_num_threads(1)
from robench.training.loop import SilentTraining, train
from tests.training.test_loop import plan

def kill():
    time.sleep(0.05)
    os.kill(os.getpid(), signal.SIGKILL)

class Killed(SilentTraining):
    def advance(self, step, loss, passes):
        if step == 10:
            Thread(target=kill).start()

train(plan("ald_trades", limit=512), Path(sys.argv[1]), progress=Killed(), save_seconds=0)
"""


@pytest.mark.slow
def test_a_training_killed_in_mid_epoch_resumes_to_the_bit(tmp_path: Path) -> None:
    """By itself, at whatever it does 50 ms after the second step of the second epoch of three: most likely it saves."""
    planned = plan("ald_trades", limit=512)
    train(planned, tmp_path / "whole.pt")
    done = subprocess.run([sys.executable, "-c", SCRIPT, tmp_path / "killed.pt"], cwd=ROOT)
    assert done.returncode == -signal.SIGKILL
    assert not (tmp_path / "killed.pt").exists()
    assert 9 <= checkpoint.read(tmp_path / "killed.pt.state")["step"] < 24
    train(planned, tmp_path / "killed.pt", resume=True)
    assert_equal_weights(tmp_path / "whole.pt", tmp_path / "killed.pt")


def test_a_finished_training_is_not_repeated(tmp_path: Path) -> None:
    card = train(plan(epochs=1), tmp_path / "m.pt")
    before = (tmp_path / "m.pt").stat().st_mtime_ns
    assert train(plan(epochs=1), tmp_path / "m.pt", resume=True) == card
    assert (tmp_path / "m.pt").stat().st_mtime_ns == before
    with pytest.raises(UserError, match=r"another training \(lr 0.05, not 0.01\)"):
        train(plan(epochs=1, lr=0.01), tmp_path / "m.pt", resume=True)
    for other, words in others(plan(epochs=1)):
        with pytest.raises(UserError, match=words):
            train(other, tmp_path / "m.pt", resume=True)


def others(planned: Plan) -> list[tuple[Plan, str]]:
    """Trainings of the same recipe and seed, with what differs in words."""
    flipped = replace(planned.split, images=planned.split.images[:].flip(3))
    begun = build(planned.recipe.setup.arch, planned.split.shape, 10)
    rewritten = replace(planned)
    vars(rewritten)["inputs"] = {**planned.inputs, "source": "of another version"}
    return [
        (replace(planned, split=flipped), "other training images"),
        (replace(planned, init=begun.state_dict()), "other weights to begin with"),
        (replace(planned, seed=1), "seed 0, not 1"),
        (rewritten, "other code"),
    ]


def test_a_checkpoint_that_does_not_tell_what_made_it_is_not_taken_for_one(tmp_path: Path) -> None:
    planned = plan(epochs=1)
    train(planned, tmp_path / "m.pt")
    document = checkpoint.read(tmp_path / "m.pt")
    del document["card"]["inputs"]
    checkpoint.save_document(tmp_path / "m.pt", document)
    assert load_model(tmp_path / "m.pt").card is not None
    with pytest.raises(UserError, match="earlier version of robench made it"):
        train(planned, tmp_path / "m.pt", resume=True)


def test_a_state_of_another_training_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Stop):
        train(plan(), tmp_path / "m.pt", progress=StopAt(5), save_seconds=0)
    with pytest.raises(UserError, match=r"another training \(lr 0.05, not 0.01\)"):
        train(plan(lr=0.01), tmp_path / "m.pt", resume=True)
    for other, words in others(plan()):
        with pytest.raises(UserError, match=words):
            train(other, tmp_path / "m.pt", resume=True)


def test_initial_weights_are_taken(tmp_path: Path) -> None:
    train(plan("standard"), tmp_path / "first.pt")
    planned = replace(plan("standard", epochs=1, lr=1e-12), init=weights(tmp_path / "first.pt"))
    train(planned, tmp_path / "second.pt")
    a, b = weights(tmp_path / "first.pt"), weights(tmp_path / "second.pt")
    assert all(torch.allclose(a[name], b[name], atol=1e-6) for name in a)
    assert planned.name != plan("standard", epochs=1, lr=1e-12).name


class Spy(SilentTraining):
    def __init__(self) -> None:
        self.epochs: list[Mapping[str, float]] = []

    def epoch(self, metrics: Mapping[str, float]) -> None:
        self.epochs.append(metrics)


def test_the_kept_epoch_is_the_best_on_the_images_held_out(tmp_path: Path) -> None:
    spy = Spy()
    card = train(
        plan(epochs=6, eps_warmup=2, steps=2, step_size="eps/2", limit=None, lr=0.1), tmp_path / "m.pt", progress=spy
    )
    best = max((m["robust"], m["clean"], m["epoch"]) for m in spy.epochs if m["epoch"] >= 2)
    assert card.metrics["best"]["epoch"] == best[2]
    held_out = torch.randperm(1297, generator=torch.Generator().manual_seed(0))[:100]
    split = datasets.load("digits", "train").take(held_out)
    with torch.no_grad():
        clean = (load_model(tmp_path / "m.pt").model(split.floats(slice(None))).argmax(1) == split.labels).float()
    assert float(clean.mean()) == pytest.approx(best[1])


@dataclass(frozen=True)
class Watching(Defense):
    """Notes what the loop hands it."""

    def losses(self, batch: Batch, step: Step) -> dict[str, Tensor]:
        SEEN.append((step.epoch, step.threat.eps, batch))
        return {"model": nn.functional.cross_entropy(step.model(batch.x), batch.y)}


SEEN: list[tuple[float, float, Batch]] = []


def test_the_radius_grows_over_the_warm_up_and_held_out_images_are_not_trained_on(tmp_path: Path) -> None:
    SEEN.clear()
    planned = with_defense(plan(limit=None, epochs=3, eps_warmup=2, holdout=300), Watching())
    train(planned, tmp_path / "m.pt")
    radii = [eps for _, eps, _ in SEEN]
    assert 0 < radii[0] < 0.02
    assert radii == sorted(radii)
    assert [eps for epoch, eps, _ in SEEN if epoch >= 2] == [0.2] * (len(SEEN) // 3)
    trained_on = {tuple(x.flatten().tolist()) for _, _, batch in SEEN for x in batch.x}
    shuffled = torch.randperm(1297, generator=torch.Generator().manual_seed(0))
    held_out = {tuple(x.flatten().tolist()) for x in datasets.load("digits", "train").images[shuffled[:300]]}
    assert not trained_on & held_out
    assert len(trained_on) > 900
    first, second = SEEN[0][2].x, SEEN[len(SEEN) // 3][2].x
    assert not torch.equal(first, second)  # another order


@dataclass(frozen=True)
class Duel(Defense):
    """A helper learns to scale the logits up while the model sees both."""

    def helpers(self, model: nn.Module, shape: Sequence[int], classes: int) -> dict[str, Helper]:
        network = nn.Linear(classes, 1)
        return {"helper": Helper(network, torch.optim.SGD(network.parameters(), lr=0.1))}

    def losses(self, batch: Batch, step: Step) -> dict[str, Tensor]:
        logits = step.model(batch.x)
        score = step.players["helper"](logits).mean()
        return {"model": nn.functional.cross_entropy(logits, batch.y) + score, "helper": -score}


def test_each_loss_moves_its_own_player_only(tmp_path: Path) -> None:
    """Against the two gradients taken by hand on the first step."""
    planned = with_defense(plan(epochs=1, momentum=0, weight_decay=0, limit=64, select="last"), Duel())
    loop = loop_of(planned, tmp_path)
    model, helper = loop.run_state.players["model"], loop.run_state.players["helper"]
    before = {
        player: {name: value.clone() for name, value in network.state_dict().items()}
        for player, network in (("model", model), ("helper", helper))
    }
    order = torch.randperm(64, generator=torch.Generator().manual_seed(seed_of(0, "order", 0)))
    x, y = loop.split.floats(order), loop.split.labels[order]
    logits = model(x)
    score = helper(logits).mean()
    of_model = torch.autograd.grad(
        nn.functional.cross_entropy(logits, y) + score, list(model.parameters()), retain_graph=True
    )
    of_helper = torch.autograd.grad(-score, list(helper.parameters()))
    loop._step()
    for network, player, rate, gradients in ((model, "model", 0.05, of_model), (helper, "helper", 0.1, of_helper)):
        for (name, value), gradient in zip(network.named_parameters(), gradients, strict=True):
            assert torch.allclose(value, before[player][name] - rate * gradient, atol=1e-6), (player, name)


def loop_of(planned: Plan, tmp_path: Path) -> Any:
    return _Loop(planned, tmp_path / "m.pt", Accelerator(cpu=True), SilentTraining(), 60)


def test_helpers_are_resumed_too(tmp_path: Path) -> None:
    planned = with_defense(plan(select="last"), Duel())
    train(planned, tmp_path / "whole.pt")
    with pytest.raises(Stop):
        train(planned, tmp_path / "cut.pt", progress=StopAt(6), save_seconds=0)
    train(planned, tmp_path / "cut.pt", resume=True)
    assert_equal_weights(tmp_path / "whole.pt", tmp_path / "cut.pt")


@dataclass(frozen=True)
class Explodes(Defense):
    def losses(self, batch: Batch, step: Step) -> dict[str, Tensor]:
        loss = step.model(batch.x).mean()
        return {"model": loss * torch.nan if step.epoch >= 1 else loss}


def test_a_loss_that_is_no_number_stops_and_keeps_the_last_state(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"the loss of model is nan at step 4.*is kept") as caught:
        train(with_defense(plan(), Explodes()), tmp_path / "m.pt", save_seconds=0)
    assert "\n" not in str(caught.value)
    state = checkpoint.read(tmp_path / "m.pt.state")
    assert state["step"] > 0
    assert all(tensor.isfinite().all() for tensor in state["players"]["model"].values())
    assert not (tmp_path / "m.pt").exists()
    kept = checkpoint.card_of(checkpoint.read(tmp_path / "m.last-good.pt"))
    assert kept is not None
    assert kept.metrics["best"]["epoch"] == 1


def test_the_metrics_file_gains_a_row_with_each_epoch(tmp_path: Path) -> None:
    planned = plan("trades", epochs=3)
    train(planned, tmp_path / "whole.pt")
    with pytest.raises(Stop):
        train(planned, tmp_path / "cut.pt", progress=StopAt(6), save_seconds=0)
    train(planned, tmp_path / "cut.pt", resume=True)
    whole, cut = (epoch_log.read(tmp_path / f"{name}.pt.metrics.csv") for name in ("whole", "cut"))
    assert [row["epoch"] for row in whole] == [1, 2, 3]
    timed = {"seconds", "passes"}
    assert [{k: v for k, v in row.items() if k not in timed} for row in whole] == [
        {k: v for k, v in row.items() if k not in timed} for row in cut
    ]
    assert {"loss", "clean", "robust"} <= set(whole[0])
    assert whole[0]["passes"] == whole[1]["passes"] > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"precision": "float8"}, "bfloat16"),
        ({"limit": 0}, "a limit of at least 1"),
        ({"seed": -1}, "seed of at least 0"),
    ],
)
def test_wrong_plans(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        replace(plan(), **options)


def test_weights_lie_plainly_in_the_file_though_the_network_computes_in_channels_last(tmp_path: Path) -> None:
    loop = loop_of(plan(), tmp_path)
    convolutions = [each for each in loop.run_state.players["model"].modules() if isinstance(each, nn.Conv2d)]
    assert all(each.weight.is_contiguous(memory_format=torch.channels_last) for each in convolutions)
    train(plan(epochs=1), tmp_path / "m.pt")
    assert all(tensor.is_contiguous() for tensor in weights(tmp_path / "m.pt").values())


def test_coloured_images_are_laid_out_as_a_method_expects(tmp_path: Path) -> None:
    """Of particles and gradients it makes groups, in memory that a channels-last network has laid out otherwise."""
    images = torch.randint(256, (16, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    split = datasets.Split("x", images, torch.arange(16) % 10)
    settings = {"arch": "digit_cnn", "batch_size": 8, "epochs": 1, "eps_warmup": 0, "holdout": 0, "steps": 2}
    for scope in ("example", "batch"):
        resolved = recipe.resolve("ald_trades", "cifar10", split.shape, {**settings, "kernel_scope": scope})
        train(Plan(resolved, "x", split), tmp_path / f"{scope}.pt")


def test_layers_that_draw_do_so_by_seed() -> None:
    drawn = []
    for seed in (5, 5, 6):
        with torch.random.fork_rng(devices=[]):
            seed_layers(torch.device("cpu"), seed)
            drawn.append(nn.functional.dropout(torch.ones(100)))
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def test_too_few_images(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="at least a batch of 64"):
        train(plan(limit=10), tmp_path / "m.pt")
    with pytest.raises(UserError, match="holdout below"):
        plan(holdout=5000)


def test_bfloat16_stays_on_and_resumes(tmp_path: Path) -> None:
    planned = replace(with_defense(plan(epochs=2, holdout=20), Kinds()), precision="bfloat16")
    KINDS.clear()
    train(planned, tmp_path / "whole.pt")
    assert set(KINDS) == {torch.bfloat16}
    with pytest.raises(Stop):
        train(planned, tmp_path / "cut.pt", progress=StopAt(6), save_seconds=0)
    train(planned, tmp_path / "cut.pt", resume=True)
    assert_equal_weights(tmp_path / "whole.pt", tmp_path / "cut.pt")
    assert weights(tmp_path / "cut.pt")["hidden.weight"].dtype is torch.float32


KINDS: list[torch.dtype] = []


@dataclass(frozen=True)
class Kinds(Defense):
    """Notes the precision that the network's layers compute in."""

    def losses(self, batch: Batch, step: Step) -> dict[str, Tensor]:
        hook = step.model.get_submodule("hidden").register_forward_hook(lambda _, __, out: KINDS.append(out.dtype))
        loss = nn.functional.cross_entropy(step.model(batch.x), batch.y)
        hook.remove()
        return {"model": loss}


@pytest.mark.gpu
def test_training_on_a_gpu_resumes_to_the_bit(tmp_path: Path) -> None:
    planned = plan("ald_trades")
    train(planned, tmp_path / "whole.pt", device="cuda")
    with pytest.raises(Stop):
        train(planned, tmp_path / "cut.pt", device="cuda", progress=StopAt(6), save_seconds=0)
    train(planned, tmp_path / "cut.pt", device="cuda", resume=True)
    assert_equal_weights(tmp_path / "whole.pt", tmp_path / "cut.pt")
