"""What an attack asks of the model and its images: declared, left out with the reason, refused where it was named."""

import warnings
from collections.abc import Callable
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import robench as api
from robench.access import Access
from robench.evaluation.plan import EvaluationOptions, plan_evaluation
from robench.evaluation.target import from_module
from robench.search.catalog import attack
from robench.search.declaration import Task
from robench.search.judge import VOTES
from robench.search.resources import Images, Resources, TrainingImages
from robench.utils import registry
from robench.utils.errors import Notice, UserError
from tests.helpers import Linear, Ran, Trained

Run = Callable[..., Ran]

SMALL = {
    "adt_exp": "steps=2,samples=2,draws=2",
    "adt_exp_am": "filters=8,epochs=1,draws=2",
    "adt_imp_am": "filters=8,epochs=1,draws=2",
    "apgd": "steps=3",
    "cw": "steps=2",
    "feature": "layer=pooled,targets=2,steps=2",
    "mim": "steps=2",
    "multi_targeted": "steps=2",
    "pgd": "steps=2",
    "rays": "queries=20",
    "spsa": "steps=2,evaluations=4",
    "squares": "queries=40",
}
"""What makes an attack quick, by its function."""

SLOW = ("bb", "autoattack", "square", "foolbox", "transfer")
"""Of libraries, or driven on other models: tried on fewer tasks (bb in its own tests: it starts a process)."""

SHAPES = ((1, 8, 8), (3, 8, 8), (1, 8, 6), (3, 1, 1))


def catalogued() -> list[str]:
    """One name for each function of the catalog and its settings that its needs depend on."""
    return [*SMALL, "apgd:loss=dlr", "apgd:targets=2"]


def quick(name: str) -> str:
    function, _, more = name.partition(":")
    return f"{function}:" + ",".join(filter(None, (SMALL[function], more)))


def model_of(shape: tuple[int, ...], classes: int) -> nn.Module:
    generator = torch.Generator().manual_seed(0)
    size = shape[0] * shape[1] * shape[2]
    return Linear(torch.randn(classes, size, generator=generator), torch.zeros(classes))


def data_of(model: nn.Module, shape: tuple[int, ...], count: int = 3) -> tuple[Tensor, Tensor]:
    x = torch.rand(count, *shape, generator=torch.Generator().manual_seed(1))
    return x, model(x).argmax(1)


def runs_or_says_why(name: str, shape: tuple[int, ...], classes: int, norm: str) -> bool:
    """Whether it ran; without an error on any example, or it says in a sentence why it cannot be run."""
    model = model_of(shape, classes)
    x, y = data_of(model, shape)
    pool = (torch.cat([x, x]), torch.cat([y, (y + 1) % classes]))
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)  # an example that failed
        warnings.simplefilter("ignore", Notice)
        try:
            run = api.attack(name)
            x_adv = run(model, x, y, eps=0.01, norm=norm, images=pool, training=pool, sources=[model])
        except UserError as error:
            assert "cannot be run: it" in str(error)  # noqa: PT017
            return False
    assert x_adv.shape == x.shape
    return True


def test_every_function_of_the_catalog_is_tried() -> None:
    functions = {str(entry["attack"]).partition(":")[0] for entry in registry.attack_catalog().values()}
    assert functions == {*SMALL, *SLOW, "fgsm", "in_turn"}


@pytest.mark.parametrize("name", [*catalogued()])
def test_it_runs_on_every_task_or_says_why_not(name: str) -> None:
    ran = [
        runs_or_says_why(quick(name), shape, classes, norm)
        for shape, classes, norm in product(SHAPES, (2, 3, 10), ("linf", "l2"))
    ]
    assert any(ran)


@pytest.mark.parametrize(
    ("name", "shape", "classes", "norm", "runs"),
    [
        ("fgsm", (3, 1, 1), 2, "l2", True),
        ("in_turn:first=fgsm,then=fgsm", (1, 8, 6), 2, "linf", True),
        ("transfer:by=fgsm", (3, 1, 1), 3, "l2", True),
        ("foolbox", (1, 8, 6), 2, "linf", True),
        ("foolbox", (3, 1, 1), 3, "linf", True),
        ("apgd-t", (1, 8, 8), 3, "linf", False),
        ("apgd-t", (1, 8, 8), 4, "linf", True),
        ("apgd-ce", (1, 8, 6), 2, "l2", True),
        ("fab-t", (3, 1, 1), 2, "linf", True),
        ("autoattack", (1, 2, 2), 3, "l2", True),
        ("autoattack-rand", (1, 2, 2), 2, "linf", True),
        ("square", (3, 1, 1), 3, "l2", False),
        ("square", (1, 4, 5), 3, "l2", False),
        ("square", (1, 14, 14), 3, "l2", False),
        ("square", (1, 12, 7), 3, "l2", False),
    ],
)
@pytest.mark.usefixtures("short_autoattack")
def test_libraries(name: str, shape: tuple[int, ...], classes: int, norm: str, runs: bool) -> None:
    assert runs_or_says_why(name, shape, classes, norm) == runs


def test_what_is_missing_is_named() -> None:
    def obstacle(
        name: str,
        classes: int = 10,
        shape: tuple[int, ...] = (1, 8, 8),
        norm: str = "linf",
        gives: Access = "gradients",
    ) -> str | None:
        return attack(name).obstacle(Task(norm, gives, classes, shape, ["map"], [Images, TrainingImages]))  # type: ignore[arg-type]

    assert obstacle("apgd:loss=dlr", 2) == "it needs 3 classes, the model has 2"
    assert obstacle("apgd:loss=dlr,targets=1", 2) is None
    assert obstacle("apgd-t", 3) == "it needs 4 classes, the model has 3"
    assert obstacle("autoattack", 2) is None
    assert "do not fit into 12x12 pixels" in str(obstacle("square", shape=(1, 12, 12), norm="l2"))
    assert obstacle("square", shape=(1, 12, 12)) is None
    assert obstacle("rays", norm="l2") == "it is defined for linf, not for l2"
    assert obstacle("pgd-20", gives="scores") == "it needs gradients, the model gives only scores"
    assert obstacle("apgd-squares", gives="scores") is None
    both = obstacle("in_turn:first=pgd-10,then=fgsm", gives="scores")
    assert both == "it needs gradients, the model gives only scores"
    both = obstacle("in_turn:first=pgd-10,then=rays", gives="scores", norm="l2")
    assert both == "pgd-10: it needs gradients, the model gives only scores; rays: it is defined for linf, not for l2"


class Coded(nn.Module):
    """Thermometer coding: no gradient passes the comparison."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.layer = nn.Linear(64 * 7, classes)
        nn.init.normal_(self.layer.weight, generator=torch.Generator().manual_seed(0))

    def forward(self, x: Tensor) -> Tensor:
        levels = torch.linspace(0.1, 0.9, 7)
        return self.layer((x.flatten(1)[:, :, None] > levels).float().flatten(1))  # type: ignore[no-any-return]


class Detached(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x.detach())  # type: ignore[no-any-return]


class Undifferentiated(Detached):
    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)  # type: ignore[no-any-return]


@pytest.mark.parametrize("kind", [Detached, Undifferentiated])
def test_a_suite_goes_on_with_what_needs_no_gradient(
    kind: type[Detached], tmp_path: Path, digits_model: Trained
) -> None:
    with pytest.warns(Notice, match="gives no gradient"):
        planned = plan_evaluation(kind(digits_model.model), EvaluationOptions(suite="strong", eps=0.2, n=20))
    assert [each.name for each in planned.attacks] == ["squares", "apgd-squares"]
    assert {each.access for each in planned.attacks} == {"scores"}
    with pytest.warns(Notice, match="gives no gradient"):
        summary = api.evaluate(kind(digits_model.model), suite="strong", eps=0.2, n=20, results=tmp_path)
    assert {(found.errors, found.backwards) for found in summary.attacks.values()} == {(0, 0)}
    assert summary.worst_case is not None
    assert summary.worst_case.value < summary.clean.value
    assert "it needs gradients" in summary.skipped["multi_targeted"]
    assert "it needs gradients" in summary.skipped["climb of apgd-squares"]


def test_a_named_attack_that_needs_gradients_is_refused_and_a_default_does_not(robench: Run, in_tmp: Path) -> None:
    with pytest.warns(Notice), pytest.raises(UserError, match="pgd-20 cannot be run: it needs gradients"):
        plan_evaluation(Coded(), EvaluationOptions(attacks=["pgd-20"], eps=0.1))
    with pytest.warns(Notice):
        names = [each.name for each in plan_evaluation(Coded(), EvaluationOptions(eps=0.1)).attacks]
    assert names == ["spsa-256", "square", "rays"]  # the suite black_box
    Path("nets.py").write_text(
        "import torch\nclass Net(torch.nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        "        self.layer = torch.nn.Linear(64, 10)\n    def forward(self, x):\n"
        "        return self.layer(x.detach().flatten(1))\ndef net():\n    torch.manual_seed(0)\n    return Net()\n"
    )
    ran = robench("eval", "--model", "nets.py:net", "--suite", "strong", "--eps", "0.1", "--n", 4, "--dry-run")
    assert ran.code == 0, ran.err
    assert "gives no gradient" in ran.err
    assert "apgd-squares" in ran.out
    assert "multi_targeted" not in ran.out


def test_a_zero_gradient_is_one(digits_model: Trained) -> None:
    class Flat(Detached):
        def forward(self, x: Tensor) -> Tensor:
            return self.model(x.detach()) + 0 * x.sum()  # type: ignore[no-any-return]

    assert (
        plan_evaluation(Flat(digits_model.model), EvaluationOptions(attacks=["fgsm"], eps=0.1)).subject.gives
        == "gradients"
    )


@pytest.mark.usefixtures("short_autoattack")
def test_parts_of_autoattack_that_cannot_run_are_left_out_and_said(tmp_path: Path) -> None:
    model = model_of((1, 8, 8), 3)
    x = torch.rand(30, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    y = model(x).argmax(1)
    file = tmp_path / "set.npz"
    np.savez(file, x_test=x.numpy(), y_test=y.numpy(), x_train=x.numpy(), y_train=y.numpy())
    options = {"dataset": f"npz:{file}", "eps": 0.1, "n": 4, "results": tmp_path / "r"}
    summary = api.evaluate(from_module(model), attacks=["autoattack"], **options)  # type: ignore[arg-type]
    assert summary.attacks["autoattack"].errors == 0
    assert summary.skipped == {"apgd-t of autoattack": "it needs 4 classes, the model has 3"}
    with pytest.raises(UserError, match=r"apgd-t cannot be run: .* needs 4 classes"):
        api.evaluate(from_module(model), attacks=["apgd-t"], **options)  # type: ignore[arg-type]


def test_a_source_without_gradients_is_no_source(digits_model: Trained) -> None:
    with pytest.raises(UserError, match="on a source model, it needs gradients"):
        plan_evaluation(
            digits_model.model,
            EvaluationOptions(attacks=["transfer-fgsm"], sources=[Detached(digits_model.model)], eps=0.1),
        )


def test_from_python_parts_and_gradients_are_looked_at_too(digits_model: Trained) -> None:
    x, y = digits_model.split.floats(slice(6)), digits_model.split.labels[:6]
    with pytest.raises(UserError, match="it needs gradients"):
        api.attack("pgd-10")(Detached(digits_model.model), x, y, eps=0.1)
    with pytest.warns(Notice, match="of in_turn.* was skipped: it needs gradients"):
        x_adv = api.attack("in_turn:first=fgsm,then=squares")(Detached(digits_model.model), x, y, eps=0.3)
    assert (digits_model.model(x_adv).argmax(1) != y).any()


def test_from_python_a_stochastic_model_is_judged_by_votes(digits_model: Trained) -> None:
    """A coin that shows another class in one pass of ten: by one draw an image falls somewhere along the way."""

    class Coin(nn.Module):
        def __init__(self, model: nn.Module) -> None:
            super().__init__()
            self.model = model

        def forward(self, x: Tensor) -> Tensor:
            logits = self.model(x)
            turned = torch.rand(len(x), 1) < 0.1
            return torch.where(turned, logits.roll(1, 1), logits)

    model = digits_model.model
    x, y = digits_model.split.floats(slice(40)), digits_model.split.labels[:40]
    right = model(x).argmax(1) == y
    x, y = x[right], y[right]
    x_adv = api.attack("pgd-20")(Coin(model), x, y, eps=1e-6)
    # none is broken within so small a ball, so each x_adv is where the mean margin was largest, not the first draw lost
    assert (model(x_adv).argmax(1) == y).all()
    assert VOTES > 1
    seen = []
    hook = torch.nn.modules.module.register_module_forward_pre_hook(
        lambda module, inputs: seen.append(1) if isinstance(module, Coin) else None
    )
    try:
        api.attack("fgsm")(Coin(model), x[:1], y[:1], eps=1e-6, draws=7)
    finally:
        hook.remove()
    assert len(seen) >= VOTES + 7


def test_resources_of_a_part_leave_out_the_part_alone() -> None:
    task = Task("linf", "gradients", 10, (1, 8, 8), ["map"], Resources().kinds)
    composed = attack("in_turn:first=feature,then=squares")
    assert composed.obstacle(task) is None
    assert composed.unfit(task) == {"feature": "it needs a pool of images, and none were given"}
    assert composed.fitted(task).key() != composed.key()
