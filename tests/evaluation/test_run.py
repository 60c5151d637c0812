"""The ledger that an evaluation leaves: complete, resumable, and equal however the run went."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from robench.data.datasets import Split
from robench.evaluation.evaluation import Evaluation
from robench.evaluation.plan import EvaluationOptions, plan_evaluation
from robench.evaluation.run import evaluate, run
from robench.evaluation.target import from_module, load_model
from robench.ledger.cell import Cell
from robench.ledger.store import Ledger
from robench.ledger.summary import summarise
from robench.losses import cross_entropy
from robench.reports import ranking
from robench.search import sees
from robench.search.catalog import attack, battery, configure
from robench.search.search import Search
from robench.specs.choices import Mode
from robench.threat import ThreatModel
from robench.utils.errors import UserError
from tests.helpers import Linear, Trained, linear_case, minimal_eps

RUN: dict[str, Any] = {"started": "2026-01-01T00:00:00"}


def planned(trained: Trained, **options: Any) -> Evaluation:
    return plan_evaluation(
        trained.model, EvaluationOptions(**{"attacks": ["pgd-10"], "eps": 0.08, "batch_size": 32, **options})
    )


def frames(results: Path) -> dict[str, pd.DataFrame]:
    """Every cell's rows by its attack's name, without the time they took."""
    return {cell.about["attack"]: cell.rows().drop(columns="seconds") for cell in Ledger(results).cells()}


def assert_equal_ledgers(first: Path, second: Path) -> None:
    a, b = frames(first), frames(second)
    assert a.keys() == b.keys()
    for name in a:
        pd.testing.assert_frame_equal(a[name], b[name], check_exact=True)


def test_accuracies_of_a_linear_model_are_those_of_the_closed_form(tmp_path: Path) -> None:
    model, x, y = linear_case(2, examples=40)
    flipped = y.clone()
    flipped[:10] = 1 - flipped[:10]  # misclassified when clean
    distances = minimal_eps(model, x, y, "linf")
    eps = float(distances.median())
    robust = (distances > eps) & (flipped == y)
    evaluation = Evaluation(
        from_module(model), Split("toy", x, flipped), ThreatModel.of("linf", eps), [attack("pgd-20")]
    )
    summary = summarise(evaluate(evaluation, Ledger(tmp_path), RUN))
    assert summary.clean.value == 30 / 40
    assert summary.attacks["pgd-20"].accuracy is not None
    assert summary.attacks["pgd-20"].accuracy.value == pytest.approx(float(robust.float().mean()))
    assert summary.attacks["pgd-20"].kills == 30 - int(robust.sum())
    rows = frames(tmp_path)["pgd-20"]
    untouched = rows[rows["clean_prediction"] != rows["label"]]
    assert len(untouched) == 10
    assert untouched["fooled"].all()
    assert (untouched["forwards"] == 0).all()
    assert untouched["first_step"].isna().all()


def test_more_examples_later_run_only_what_is_missing(tmp_path: Path, digits_model: Trained) -> None:
    evaluation = planned(digits_model)
    seen: list[int] = []

    class Counter:
        def begin(self, attack: str, examples: int) -> None:
            if attack != "diagnosis":
                seen.append(examples)

        def active(self, examples: int, passes: int, done: float) -> None: ...
        def advance(self, examples: int, robust: int) -> None: ...
        def end(self) -> None: ...
        def show(self, summary: object) -> None: ...

    first = run(replace(evaluation, n=100), tmp_path, progress=Counter())
    assert seen == [100, 100]
    second = run(replace(evaluation, n=250), tmp_path, progress=Counter())
    assert seen == [100, 100, 150, 150]
    assert (first.n, second.n) == (100, 250)
    again = run(replace(evaluation, n=100), tmp_path, progress=Counter())
    assert len(seen) == 4
    assert again == first


def test_every_setting_that_changes_numbers_changes_the_cell(digits_model: Trained) -> None:
    base = planned(digits_model)
    changed = [
        replace(base, seed=1),
        replace(base, readings="final"),
        replace(base, threat=ThreatModel.of("linf", 0.09)),
        replace(base, threat=ThreatModel.of("l2", 0.08)),
        replace(base, attacks=[attack("pgd-20")]),
        replace(base, attacks=[attack("pgd-10:restarts=2")]),
        replace(base, attacks=[attack("pgd-10:step_size=eps/5")]),
        replace(base, split=base.split.take(slice(400))),
        replace(base, subject=from_module(Linear(torch.zeros(10, 64), torch.zeros(10)))),
    ]
    keys = [str(evaluation.key(evaluation.attacks[0])) for evaluation in [base, *changed]]
    assert len(set(keys)) == len(keys)
    assert str(replace(base, batch_size=7).key(base.attacks[0])) == keys[0]


def test_the_weights_are_in_the_key(digits_model: Trained, tmp_path: Path) -> None:
    base = planned(digits_model)
    with torch.no_grad():
        moved = replace(base, subject=from_module(nudged(digits_model.model)))
    assert moved.key(None) != base.key(None)


def nudged(model: torch.nn.Module) -> torch.nn.Module:
    import copy

    other = copy.deepcopy(model)
    next(other.parameters()).view(-1)[0] += 1e-6
    return other


@sees("gradients")
def breaks_down(search: Search) -> None:
    search.gradient(search.x, cross_entropy)
    if float(search.x[0, 0, 0, 0]) < 0:
        return
    raise ZeroDivisionError("as it was bound to")


def test_an_attack_that_fails_is_an_error_and_is_tried_again(tmp_path: Path, digits_model: Trained) -> None:
    evaluation = replace(planned(digits_model), attacks=[configure(breaks_down, {}, name="breaks_down")])
    for _ in range(2):
        summary = run(replace(evaluation, n=40), tmp_path)
        found = summary.attacks["breaks_down"]
        assert found.errors + summary.attacks["breaks_down"].n_run == 40
        assert found.errors >= 30
        assert found.message == "ZeroDivisionError: as it was bound to"
        assert summary.verdict.reliable is False
    healed = replace(evaluation, attacks=[replace(evaluation.attacks[0], function=attack("fgsm").function)])
    cell = Ledger(tmp_path).find(evaluation.key(evaluation.attacks[0]))
    assert cell is not None
    assert len(cell.present()) < 10
    assert healed.key(healed.attacks[0]) != evaluation.key(evaluation.attacks[0])


@sees("gradients")
def leaves_the_ball(search: Search) -> None:
    search.offer((search.x + 2 * search.eps).clamp(0, 1))


def test_an_attack_that_leaves_the_ball_is_marked_and_not_believed(tmp_path: Path, digits_model: Trained) -> None:
    evaluation = replace(planned(digits_model), attacks=[configure(leaves_the_ball, {}, name="leaves_the_ball")])
    summary = run(replace(evaluation, n=40), tmp_path)
    found = summary.attacks["leaves_the_ball"]
    assert found.accuracy == summary.clean
    assert found.invalid == round(40 * summary.clean.value)
    assert summary.verdict.reliable is False
    assert "outside the threat" in summary.verdict.reasons[0]


def test_final_readings_are_no_stronger_than_any(tmp_path: Path, digits_model: Trained) -> None:
    base = planned(digits_model)
    any_ = run(replace(base, n=100), tmp_path).attacks["pgd-10"]
    final = run(replace(replace(base, readings="final"), n=100), tmp_path).attacks["pgd-10"]
    assert any_.accuracy_final is None
    assert final.accuracy == any_.accuracy
    assert final.accuracy is not None
    assert final.accuracy_final is not None
    assert final.accuracy_final >= final.accuracy.value
    assert final.forwards > any_.forwards


@pytest.mark.parametrize("size", [1, 3, 17])
def test_batch_sizes_change_no_outcome(size: int, tmp_path: Path, digits_model: Trained) -> None:
    for results, batch_size in ((tmp_path / "a", 64), (tmp_path / "b", size)):
        run(replace(planned(digits_model, batch_size=batch_size), n=20), results)
    a, b = (frames(tmp_path / name)["pgd-10"] for name in "ab")
    assert a["fooled"].equals(b["fooled"])
    assert a["first_step"].equals(b["first_step"])


@pytest.mark.slow
@pytest.mark.parametrize("kills", [30])
def test_an_evaluation_killed_at_random_moments_ends_with_the_same_ledger(
    kills: int, tmp_path: Path, digits_model: Trained
) -> None:
    """Each attempt is a fork of one process, which has paid for importing torch."""
    from robench.models import checkpoint
    from robench.models.checkpoint import Card

    path = tmp_path / "digits.pt"
    card = Card("digit_cnn", [1, 8, 8], 10, [0.0], [1.0], "digits", "linf", "0.2", "standard", {}, 0)
    checkpoint.save(path, digits_model.model, card)
    script = tmp_path / "forks.py"
    script.write_text(FORKS)
    command = [sys.executable, str(script), str(path), str(tmp_path), str(kills)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=180 + 20 * kills)
    assert done.returncode == 0, done.stderr
    assert f"killed {kills}" in done.stdout
    assert_equal_ledgers(tmp_path / "whole", tmp_path / "killed")
    assert load_model(path).card == card


FORKS = """
import os, random, signal, sys, time, traceback
import torch
torch.set_num_threads(1)
from robench.ledger import cell
from robench.evaluation.run import run
from robench.evaluation.plan import EvaluationOptions, plan_evaluation
from robench.ledger.store import Ledger

cell.FLUSH_SECONDS = 0.0  # flush at every batch, so that kills fall between parts
model, folder, kills = sys.argv[1:]
evaluation = plan_evaluation(model, EvaluationOptions(attacks=["fgsm", "pgd-20", "mim"], eps=0.08, batch_size=8, n=64))

def child(results):
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            run(evaluation, results)
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    return pid

started = time.monotonic()
assert os.waitpid(child(f"{folder}/whole"), 0)[1] == 0
length = time.monotonic() - started
randomness = random.Random(0)
killed = 0
while killed < int(kills):
    pid = child(f"{folder}/killed")
    time.sleep(randomness.uniform(0.02, 0.25) * length)
    if os.waitpid(pid, os.WNOHANG)[0]:  # it had ended: begin another ledger's worth of work
        for cell in Ledger(f"{folder}/killed").cells():
            for part in cell.path.glob("part-*"):
                part.unlink()
        continue
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    killed += 1
assert os.waitpid(child(f"{folder}/killed"), 0)[1] == 0
print("killed", killed)
"""


def test_nan_logits_on_clean_images_are_wrong_not_robust(tmp_path: Path, digits_model: Trained) -> None:
    model = torch.nn.Sequential(digits_model.model, Blind())
    summary = run(replace(plan_evaluation(model, EvaluationOptions(attacks=["fgsm"], eps=0.1)), n=50), tmp_path)
    assert summary.clean.value == 0
    assert summary.worst_case is not None
    assert summary.worst_case.value == 0


class Blind(torch.nn.Module):
    def forward(self, logits: torch.Tensor) -> torch.Tensor:
        return logits * torch.nan


def test_the_final_accuracy_does_not_depend_on_the_batches(tmp_path: Path, digits_model: Trained) -> None:
    finals = [
        run(replace(replace(planned(digits_model, batch_size=size), readings="final"), n=9), tmp_path / name)
        for name, size in (("a", 1), ("b", 9))
    ]
    assert finals[0].attacks["pgd-10"].accuracy_final == finals[1].attacks["pgd-10"].accuracy_final


def test_worst_case_mode_ends_with_the_survivors_of_columns_mode(tmp_path: Path, digits_model: Trained) -> None:
    names = ["pgd-20", "fgsm", "mim", "rays:queries=50"]
    columns = run(planned(digits_model, attacks=names, n=30), tmp_path / "columns")
    worst = run(planned(digits_model, attacks=names, n=30, mode="worst-case"), tmp_path / "worst")
    assert list(worst.attacks) == ["fgsm", "pgd-20", "mim", "rays:queries=50"]  # the cheap ones first
    assert worst.worst_case == columns.worst_case
    assert (columns.n, worst.n) == (30, 30)
    ran = [a.n_run for a in worst.attacks.values()]
    assert ran == sorted(ran, reverse=True)
    assert ran[0] == 30 > ran[-1]
    right = 30 * columns.clean.value
    assert sum(a.kills for a in worst.attacks.values()) == round(right - 30 * columns.worst_case.value)  # type: ignore[union-attr]
    assert worst.attacks["fgsm"].accuracy == columns.attacks["fgsm"].accuracy
    assert worst.attacks["pgd-20"].accuracy is None
    assert sum(a.forwards for a in worst.attacks.values()) < sum(a.forwards for a in columns.attacks.values())
    again = run(planned(digits_model, attacks=names, n=30, mode="worst-case"), tmp_path / "worst")
    assert again == worst
    completed = run(planned(digits_model, attacks=names, n=30), tmp_path / "worst")
    for name, found in columns.attacks.items():
        assert completed.attacks[name].accuracy == found.accuracy


def test_a_worst_case_run_that_is_cut_short_leaves_no_biased_ledger(tmp_path: Path, digits_model: Trained) -> None:
    evaluation = planned(digits_model, attacks=["fgsm", "pgd-20"], n=64, mode="worst-case", batch_size=16)

    class Cut:
        def begin(self, attack: str, examples: int) -> None:
            self.blocks, self.attack = 0, attack

        def active(self, examples: int, passes: int, done: float) -> None: ...

        def advance(self, examples: int, robust: int) -> None:
            self.blocks += 1
            if self.attack == "pgd-20" and self.blocks == 2:
                raise KeyboardInterrupt

        def end(self) -> None: ...
        def show(self, summary: object) -> None: ...

    with pytest.raises(KeyboardInterrupt):
        run(evaluation, tmp_path / "cut", Cut())
    whole = run(replace(evaluation, n=32), tmp_path / "whole")
    assert whole.worst_case is not None
    row = ranking.leaderboard(tmp_path / "cut").iloc[0]
    assert row["n"] == 32
    assert row["worst_case"] == whole.worst_case.value
    for results in ("cut", "uncut"):
        run(evaluation, tmp_path / results)
    assert_equal_ledgers(tmp_path / "cut", tmp_path / "uncut")


def test_the_pool_of_images_covers_a_sorted_set(tmp_path: Path, digits_model: Trained) -> None:
    split = digits_model.split
    order = split.labels.sort().indices
    np.savez(tmp_path / "sorted.npz", x_test=split.images[order].numpy(), y_test=split.labels[order].numpy())
    name, dataset = "feature:targets=2,steps=2", f"npz:{tmp_path / 'sorted.npz'}"
    evaluation = plan_evaluation(digits_model.model, EvaluationOptions(attacks=[name], eps=0.1, dataset=dataset, n=8))
    assert run(evaluation, tmp_path).attacks[name].errors == 0


def test_two_attacks_of_one_name_are_refused(tmp_path: Path) -> None:
    for folder in "ab":
        (tmp_path / folder).mkdir()
        text = "from robench.search import sees\n@sees('labels')\ndef mine(search: object) -> None: ...\n"
        (tmp_path / folder / "mine.py").write_text(text)
    with pytest.raises(UserError, match="two columns would be called 'mine'"):
        battery(None, [str(tmp_path / "a" / "mine.py"), str(tmp_path / "b" / "mine.py")])


def test_a_model_for_other_images_is_refused_in_one_sentence() -> None:
    model = Linear(torch.zeros(10, 100), torch.zeros(10))
    with pytest.raises(UserError, match="cannot take images of shape"):
        plan_evaluation(model, EvaluationOptions(attacks=["fgsm"], eps=0.1))


def test_labels_beyond_the_models_classes_are_refused() -> None:
    model = Linear(torch.zeros(5, 64), torch.zeros(5))
    with pytest.raises(UserError, match="expected labels below 5"):
        plan_evaluation(model, EvaluationOptions(attacks=["fgsm"], eps=0.1))


@pytest.mark.gpu
def test_a_gpu_gives_the_outcomes_of_a_cpu(tmp_path: Path, digits_model: Trained) -> None:
    for device in ("cpu", "cuda"):
        run(replace(planned(digits_model, device=device), n=300), tmp_path / device)
    cpu, cuda = (frames(tmp_path / device)["pgd-10"] for device in ("cpu", "cuda"))
    assert (cpu["fooled"] == cuda["fooled"]).mean() > 0.99


@pytest.mark.parametrize("mode", ["columns", "worst-case"])
def test_runs_that_begin_alike_are_made_once(
    digits_model: Trained, tmp_path: Path, mode: Mode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PGD-3 and PGD-6 are the beginning of PGD-12, and give the rows that each would give by itself."""
    names = ["pgd:steps=3", "fgsm", "pgd:steps=12", "pgd:steps=6", "pgd:steps=6,step_size=eps/3"]
    together = planned(digits_model, attacks=names, n=30, mode=mode)
    cells = evaluate(together, Ledger(tmp_path / "together"), RUN)
    alone: dict[str, Cell] = {}
    for attacks in [names] if mode == "worst-case" else [[name] for name in names]:
        with monkeypatch.context() as patch:
            patch.setattr(Evaluation, "can_be_cut", lambda self, attack: False)
            evaluation = planned(digits_model, attacks=attacks, n=30, mode=mode)
            alone |= evaluate(evaluation, Ledger(tmp_path / f"alone {len(alone)}"), RUN)
    for name in names:
        expected, found = alone[name].rows(), cells[name].rows()
        if mode == "worst-case":  # the shared run goes to some whom an attack in between would have spared it
            expected, found = (frame[expected["status"] != "skipped"] for frame in (expected, found))
        pd.testing.assert_frame_equal(found.drop(columns="seconds"), expected.drop(columns="seconds"))
    shared = cells["pgd:steps=6"].rows()
    longer = cells["pgd:steps=12"].rows()
    assert (shared["seconds"] < longer["seconds"]).sum() > 10
    made = sum(int(cells[f"pgd:steps={steps}"].rows()["backwards"].max()) for steps in (3, 6, 12))
    assert made == 21  # as if each had been run by itself


def test_a_run_that_is_there_already_does_not_keep_its_beginning_from_being_made(
    digits_model: Trained, tmp_path: Path
) -> None:
    long, both = (planned(digits_model, attacks=names, n=40) for names in (["pgd-20"], ["pgd-10", "pgd-20"]))
    evaluate(long, Ledger(tmp_path / "a"), RUN)
    evaluate(both, Ledger(tmp_path / "a"), RUN)
    evaluate(both, Ledger(tmp_path / "b"), RUN)
    assert_equal_ledgers(tmp_path / "a", tmp_path / "b")
