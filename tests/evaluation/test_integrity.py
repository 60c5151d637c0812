"""What attacks, and models that change, cannot do to the numbers; and models that are odd but right."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import robench
from robench.ledger.summary import Summary
from robench.losses import cross_entropy
from robench.search.classifier import Classifier
from robench.search.judge import Judge
from robench.threat import ThreatModel
from robench.utils.memory import ran_out
from tests.helpers import Ran, Trained, linear_case, run_attack

ATTACK = """
import sys, torch
from robench.search import sees
from robench.losses import cross_entropy

@sees("gradients")
def mine(search, *, how: str = "honest"):
    print("a word of the attack's")
    at = search.state(x=search.x)
    model = search._classifier.model
    if how == "exits": sys.exit(0)
    if how == "weights": next(model.parameters()).data.mul_(-1)
    if how == "mode": model.train()
    if how == "dtype": torch.set_default_dtype(torch.float64)
    if how == "labels": search.y[:] = (search.y + 1) % 10
    if how == "memory": raise RuntimeError("could not create a primitive")
    for _ in search.steps(5):
        step = search.eps * search.steepest(search.gradient(at.x, cross_entropy))
        if how == "in place": at.x += step
        elif how == "data": at.x.data.add_(step)
        else: at.x = search.project(at.x + step)
    search.offer(at.x)
"""


def evaluated(model: nn.Module, *attacks: str, n: int = 30, eps: str = "0.1") -> Summary:
    return robench.evaluate(model, attacks=attacks, n=n, eps=eps, device="cpu", batch_size=16)


@pytest.mark.parametrize("how", ["in place", "data", "labels", "weights", "mode", "dtype", "exits", "memory"])
def test_an_attack_that_oversteps_gets_errors_and_the_next_one_a_clean_model(
    how: str, in_tmp: Path, digits_model: Trained
) -> None:
    (in_tmp / "mine.py").write_text(ATTACK)
    alone = evaluated(digits_model.model, "mine.py").attacks["mine"]
    both = evaluated(digits_model.model, f"mine.py:how={how}", "mine.py:how=again").attacks
    overstepped, honest = both[f"mine:how={how}"], both["mine:how=again"]
    assert (overstepped.errors, overstepped.kills) == (30 - overstepped.n_run + overstepped.kills, 0)
    assert overstepped.errors > 0
    assert overstepped.message
    assert honest.kills == alone.kills > 0
    assert torch.get_default_dtype() == torch.float32


def test_an_exit_is_no_success_and_a_print_stays_off_standard_output(robench: Callable[..., Ran], in_tmp: Path) -> None:
    (in_tmp / "mine.py").write_text(ATTACK)
    (in_tmp / "model.py").write_text(
        "import sys, torch\n"
        "class Exits(torch.nn.Module):\n"
        "    def __init__(self, code):\n"
        "        super().__init__(); self.code = code; self.layer = torch.nn.Linear(64, 10)\n"
        "    def forward(self, x):\n"
        "        print('a word of the model\\'s')\n"
        "        if self.code is not None: sys.exit(self.code)\n"
        "        return self.layer(x.flatten(1))\n"
        "def talks(): return Exits(None)\n"
        "def exits(): return Exits(0)\n"
        "def quits(): sys.exit(0)\n"
    )
    for factory in ("exits", "quits"):
        ran = robench("eval", "--model", f"model.py:{factory}", "--attack", "fgsm", "--fail-under", "0.99")
        assert ran.code == 2, factory
        assert "asked to end the program" in ran.err
    ran = robench(
        "eval", "--model", "model.py:talks", "--attack", "mine.py", "--n", "20", "--format", "json", "--eps", "0.1"
    )
    assert json.loads(ran.out)["n"] == 20
    assert "a word of the model's" in ran.err
    assert "a word of the attack's" in ran.err


class Changes(nn.Module):
    """Another model from its 60th call on, or at every so manieth one."""

    def __init__(self, model: nn.Module, *, every: bool = False) -> None:
        super().__init__()
        self.model, self.every, self.calls = model, every, 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        logits: Tensor = self.model(x)
        otherwise = self.calls % 50 == 0 if self.every else self.calls >= 60
        return logits.roll(1, 1) if otherwise else logits


@pytest.mark.parametrize("every", [False, True])
def test_what_a_model_says_after_it_has_changed_does_not_count(
    every: bool, in_tmp: Path, digits_model: Trained
) -> None:
    name = "multi_targeted:steps=20"
    changing = evaluated(Changes(digits_model.model, every=every), name, n=16, eps="0.001")
    honest = evaluated(digits_model.model, name, n=16, eps="0.001")
    assert honest.attacks[name].kills == 0
    assert changing.attacks[name].kills == 0
    assert changing.verdict.reliable is not True


class Masks(nn.Module):
    """Rules a class out by -inf."""

    def __init__(self, model: nn.Module, masked: int, value: float = -torch.inf) -> None:
        super().__init__()
        self.model, self.masked, self.value = model, masked, value

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x).index_fill(1, torch.tensor(self.masked), self.value)  # type: ignore[no-any-return]


@pytest.mark.parametrize(("value", "undecided"), [(-torch.inf, False), (torch.inf, True), (torch.nan, True)])
def test_a_class_ruled_out_is_no_missing_logit(value: float, undecided: bool) -> None:
    model, x, y = linear_case(4)
    kept = y != 3
    x, y = x[kept], y[kept]
    judge = Judge(Classifier(Masks(model, 3, value)), ThreatModel.of("linf", "0.1"))
    verdicts = judge(x, x, y)
    assert (verdicts.prediction == -1).all() == undecided
    if not undecided:
        assert torch.equal(verdicts.prediction, y)
        masked = run_attack("pgd-20", Masks(model, 3), x, y, ThreatModel.of("linf", "0.05"))
        assert masked.fooled.any()


class Clamps(nn.Module):
    """Clamps its input by a layer whose slope is 0 on 0 and 1."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model, self.clamp = model, nn.Hardtanh(0.0, 1.0)

    def forward(self, x: Tensor) -> Tensor:
        return self.model(self.clamp(x))  # type: ignore[no-any-return]


@pytest.mark.parametrize("name", ["fgsm", "pgd-20", "cw-20", "mim", "apgd-ce"])
def test_gradients_are_taken_where_a_clamping_model_has_them(name: str, digits_model: Trained) -> None:
    x, y = digits_model.split.floats(slice(60)), digits_model.split.labels[:60]
    x = x.round()  # every pixel on a face of the box
    y = digits_model.model(x).argmax(1)
    threat = ThreatModel.of("linf", "0.1")
    plain, clamped = (run_attack(name, kind(digits_model.model), x, y, threat) for kind in (nn.Sequential, Clamps))
    assert int(plain.fooled.sum()) > 5
    assert int(clamped.fooled.sum()) >= int(plain.fooled.sum()) - 2


class Keeps(nn.Module):
    """Keeps an activation, as models that are looked into do."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(16, 3)
        self.kept: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self.kept = [self.layer(x.flatten(1))]
        return self.kept[0]


class Recomputes(nn.Module):
    """Makes its activations again in the backward pass, in the reentrant way, which refuses `torch.autograd.grad`."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.Tanh(), nn.Linear(8, 3))

    def forward(self, x: Tensor) -> Tensor:
        from torch.utils.checkpoint import checkpoint

        return checkpoint(self.layer, x, use_reentrant=True)  # type: ignore[no-any-return]


def odd(kind: str) -> nn.Module:
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
    if kind == "kept":
        model: nn.Module = Keeps()
        model(torch.rand(2, 1, 4, 4))
        return model
    if kind == "weight norm":
        with pytest.warns(FutureWarning):
            torch.nn.utils.weight_norm(plain[1])
        plain(torch.rand(2, 1, 4, 4))
        return plain
    if kind == "script":
        return torch.jit.trace(plain, torch.rand(2, 1, 4, 4))  # type: ignore[no-any-return, no-untyped-call]
    if kind == "recomputes":
        return Recomputes()
    return plain.half() if kind == "half" else plain.double()


@pytest.mark.parametrize("kind", ["kept", "weight norm", "script", "recomputes", "half", "double"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
@pytest.mark.parametrize("inference", [False, True])
def test_an_odd_model_is_attacked_as_any_other(kind: str, inference: bool) -> None:
    model = odd(kind)
    x = torch.rand(8, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        y = model(x.to(next(model.parameters()).dtype)).argmax(1)
    with torch.inference_mode(inference):
        x_adv = robench.attack("pgd-10")(model, x, y, eps=0.5)
    assert (x_adv - x).abs().max() <= 0.5 + 1e-5
    with torch.no_grad():
        assert (model(x_adv.to(next(model.parameters()).dtype)).argmax(1) != y).any()


@pytest.mark.parametrize(
    ("error", "memory"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory"), True),
        (RuntimeError("could not create a primitive"), True),
        (
            RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory"),
            True,
        ),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"), True),
        (RuntimeError("The size of tensor a (128) must match the size of tensor b (64)"), False),
        (ValueError("out of memory of what was said"), False),
    ],
)
def test_memory_that_ran_out_is_known_by_any_name(error: Exception, memory: bool) -> None:
    assert ran_out(error) == memory
    wrapped = ValueError("as it loaded")
    wrapped.__cause__ = error
    assert ran_out(wrapped) == memory


def test_a_library_that_differentiates_is_given_smaller_passes_where_memory_runs_out() -> None:
    class Cramped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.layer, self.room = nn.Linear(16, 3), 100

        def forward(self, x: Tensor) -> Tensor:
            if len(x) > self.room:
                raise RuntimeError("could not create a primitive")
            return self.layer(x.flatten(1))  # type: ignore[no-any-return]

    found = []
    for room in (100, 3):
        model = Cramped()
        model.room = room
        x = torch.rand(8, 1, 4, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
        classifier = Classifier(model)
        cross_entropy(classifier.logits(x), torch.zeros(8, dtype=torch.int64)).sum().backward()  # type: ignore[no-untyped-call]
        found.append(x.grad)
    torch.testing.assert_close(*found)
