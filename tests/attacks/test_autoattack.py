"""AutoAttack and Square: what the library gives when it is called directly, and nothing else changed."""

import random
import sys
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from pyautoattack import AutoAttack, checks

from robench.evaluation.plan import EvaluationOptions, plan_evaluation
from robench.search.catalog import attack
from robench.search.classifier import Classifier
from robench.search.declaration import Task
from robench.search.judge import Judge
from robench.search.rng import Draws
from robench.search.search import Search
from robench.threat import ThreatModel
from robench.utils import registry
from tests.helpers import Linear, Trained, correct, linear_case, run_attack

EPS = {"linf": 0.09, "l2": 0.5}


def compare_the_whole(library: type[AutoAttack], norm: str, trained: Trained) -> None:
    x, y = correct(trained, 12)
    outcome = run_attack("autoattack", trained.model, x, y, ThreatModel.of(norm, EPS[norm]), seed=3)
    with torch.random.fork_rng():
        whole = library(trained.model, eps=EPS[norm], norm=norm.capitalize(), seed=3)
        x_adv, y_adv = whole.run_standard_evaluation(x, y, batch_size=12)
    assert 2 < int((y_adv != y).sum()) < 12
    assert torch.equal(outcome.fooled, y_adv != y)
    assert torch.equal(outcome.kept[outcome.fooled], x_adv[outcome.fooled])
    assert not outcome.invalid.any()


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_the_whole_gives_what_the_library_gives(
    norm: str, short_autoattack: type[AutoAttack], digits_model: Trained
) -> None:
    compare_the_whole(short_autoattack, norm, digits_model)


@pytest.mark.slow
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_at_its_full_length_too(norm: str, digits_model: Trained) -> None:
    compare_the_whole(AutoAttack, norm, digits_model)


@pytest.mark.parametrize("name", ["apgd-ce", "apgd-t", "fab-t", "square"])
def test_each_component_alone_gives_what_the_library_gives(
    name: str, short_autoattack: type[AutoAttack], digits_model: Trained
) -> None:
    x, y = correct(digits_model, 12)
    outcome = run_attack(name, digits_model.model, x, y, ThreatModel.of("linf", EPS["linf"]), seed=1)
    library = short_autoattack(digits_model.model, eps=EPS["linf"], seed=1)
    library.attacks_to_run = [name]
    with torch.random.fork_rng():
        x_adv, y_adv = library.run_standard_evaluation_individual(x, y, batch_size=12)[name]
    assert 2 < int((y_adv != y).sum()) < 12
    assert torch.equal(outcome.fooled, y_adv != y)
    assert torch.equal(outcome.kept[outcome.fooled], x_adv[outcome.fooled])


@pytest.mark.parametrize("name", ["apgd-ce", "square"])
@pytest.mark.usefixtures("short_autoattack")
def test_global_state_is_left_alone(name: str, digits_model: Trained, capsys: pytest.CaptureFixture[str]) -> None:
    x, y = correct(digits_model, 4)

    def trace(frame: Any, event: str, argument: Any) -> None: ...

    traced = sys.gettrace()
    sys.settrace(trace)
    try:
        before = (torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate(), list(warnings.filters))  # type: ignore[index]
        run_attack(name, digits_model.model, x, y, ThreatModel.of("linf", 0.05))
        after = (torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate(), list(warnings.filters))  # type: ignore[index]
        assert sys.gettrace() is trace
    finally:
        sys.settrace(traced)
    assert torch.equal(before[0], after[0])
    assert before[1:] == after[1:]
    assert not any(checks.funcs.values())
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "")


@pytest.mark.parametrize(("name", "backwards"), [("square", False), ("apgd-ce", True)])
@pytest.mark.usefixtures("short_autoattack")
def test_the_librarys_passes_are_counted(name: str, backwards: bool, digits_model: Trained) -> None:
    x, y = correct(digits_model, 10)
    seen: list[int] = []
    hook = digits_model.model.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    classifier = Classifier(digits_model.model)
    hook.remove()
    threat = ThreatModel.of("linf", 1e-4)
    from robench.search.catalog import attack

    judge = Judge(Classifier(digits_model.model), threat)  # whose passes are its own
    configured = attack(name)
    search = Search(classifier, judge, threat, x, y, Draws(0, np.arange(10), x.device), access=configured.access)
    assert search.classes == 10
    seen.clear()
    classifier.forwards = 0
    outcome = search.run(configured)
    assert sum(seen) == classifier.forwards
    assert sum(seen) <= int(outcome.forwards.sum()) < sum(seen) + 10  # shares are rounded up
    assert outcome.backwards.any() == backwards
    assert torch.equal(outcome.queries, outcome.forwards if not backwards else torch.zeros_like(outcome.forwards))


@pytest.mark.parametrize("classes", [2, 3, 4])
def test_models_of_few_classes(classes: int) -> None:
    model, x, y = linear_case(classes, examples=6)
    threat = ThreatModel.of("linf", 0.2)
    assert run_attack("autoattack", model, x, y, threat).fooled.all()
    task = Task("linf", "gradients", classes, (1, 4, 4))
    assert ("4 classes" in (attack("apgd-t").obstacle(task) or "")) == (classes < 4)


@pytest.mark.parametrize(("name", "file"), [("apgd-ce", "autoattack"), ("square", "square")])
def test_restarts_differ(name: str, file: str, digits_model: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = correct(digits_model, 1)
    seeds: list[int] = []

    def recording(*arguments: Any, seed: int, **options: Any) -> Any:
        seeds.append(seed)
        library = AutoAttack(*arguments, seed=seed, **options)
        library.square.n_queries = 100
        return library

    monkeypatch.setattr(registry.module("attacks", file), "AutoAttack", recording)
    run_attack(f"{name}:restarts=3", digits_model.model, x, y, ThreatModel.of("linf", 1e-3), seed=5)
    assert seeds == [5, 6, 7]


@pytest.mark.usefixtures("short_autoattack")
def test_square_gets_no_gradient(digits_model: Trained) -> None:
    x, _ = correct(digits_model, 3)

    class NoGradient(Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            assert not torch.is_grad_enabled()
            return super().forward(x)

    model = NoGradient(torch.randn(10, 64), torch.zeros(10))
    run_attack("square", model, x, model.layer(x.flatten(1)).argmax(1), ThreatModel.of("linf", 0.3))


def test_the_key_names_the_batch_an_outcome_depends_on(digits_model: Trained) -> None:
    def key(name: str, batch_size: int, n: int) -> str:
        planned = plan_evaluation(
            digits_model.model, EvaluationOptions(attacks=[name], eps=0.1, batch_size=batch_size, n=n)
        )
        return str(planned.key(planned.attacks[0]))

    assert len({key("autoattack", 8, 16), key("autoattack", 16, 16), key("autoattack", 8, 24)}) == 3
    assert key("pgd-20", 8, 16) == key("pgd-20", 16, 24)
