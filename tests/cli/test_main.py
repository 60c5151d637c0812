"""The command line as a user meets it: results on standard output, one sentence and exit code 2 for a mistake."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from robench import api
from robench.models import build, checkpoint
from robench.models.checkpoint import Card
from robench.reports.ranking import FIXED
from robench.utils.errors import UserError
from tests.helpers import Ran, Trained

Run = Callable[..., Ran]


@pytest.fixture
def model(in_tmp: Path, digits_model: Trained) -> Path:
    """A checkpoint of the digits model, and an empty working directory."""
    path = in_tmp / "digits.pt"
    recipe: dict[str, Any] = {"name": "standard"}
    card = Card("digit_cnn", [1, 8, 8], 10, [0.0], [1.0], "digits", "linf", "0.1", "standard", recipe, 0)
    checkpoint.save(path, digits_model.model, card)
    return path


def test_eval_prints_one_json_object(robench: Run, model: Path) -> None:
    ran = robench("eval", "--model", model, "--attack", "fgsm", "--attack", "pgd-10", "--n", 60, "--format", "json")
    assert ran.code == 0, ran.err
    document = json.loads(ran.out)
    assert (document["model"], document["n"], document["threat"]) == ("digits", 60, "linf 0.1")
    assert list(document["attacks"]) == ["fgsm", "pgd-10"]
    clean, worst = document["clean"]["accuracy"], document["worst_case"]["accuracy"]
    assert clean > 0.85
    assert worst <= min(attack["accuracy"] for attack in document["attacks"].values()) < clean
    assert all(Path(cell).is_dir() for cell in document["ledger"])
    assert "digits (digit_cnn) on 60 of digits (test), linf 0.1" in ran.err


def test_eval_again_takes_everything_from_the_ledger(robench: Run, model: Path) -> None:
    first = robench("eval", "--model", model, "--suite", "quick", "--n", 30, "--format", "json")
    second = robench("eval", "--model", model, "--suite", "quick", "--n", 30, "--format", "json")
    assert first.out == second.out
    assert "30 examples" not in second.err


@pytest.mark.parametrize(("format", "start"), [("table", "digits on 20"), ("csv", "attack,"), ("md", "| attack")])
def test_eval_formats(robench: Run, model: Path, format: str, start: str) -> None:
    ran = robench("eval", "--model", model, "--attack", "fgsm", "--n", 20, "--format", format)
    assert ran.code == 0
    assert ran.out.startswith(start)
    assert "worst case" in ran.out


def test_the_gate(robench: Run, model: Path) -> None:
    arguments = ("eval", "--model", model, "--attack", "fgsm", "--n", 60)
    assert robench(*arguments, "--fail-under", 0.01).code == 0
    ran = robench(*arguments, "--fail-under", 0.99)
    assert ran.code == 1
    assert re.search(r"the gate failed: the interval's lower end \d+\.\d % is below 99 %\n", ran.err)
    whole = robench("eval", "--model", model, "--suite", "quick", "--n", 100, "--format", "json")
    assert json.loads(whole.out)["verdict"] == {"reliable": True, "reasons": []}  # the first number is a whole one


def test_other_images_than_a_model_was_trained_on_are_named(robench: Run, model: Path, in_tmp: Path) -> None:
    np.savez(in_tmp / "large.npz", x_test=np.zeros((4, 3, 28, 28), np.uint8), y_test=np.arange(4))
    ran = robench("eval", "--model", model, "--dataset", "npz:large.npz", "--eps", 0.1)
    assert ran.code == 2
    assert "it was trained on digits, images of shape (1, 8, 8)" in ran.err


def test_a_dry_run_counts_passes_and_attacks_nothing(robench: Run, model: Path, in_tmp: Path) -> None:
    ran = robench("eval", "--model", model, "--suite", "quick", "--n", 100, "--dry-run", "--format", "json")
    costs = {cost["name"]: cost for cost in json.loads(ran.out)}
    assert (costs["pgd-100"]["forwards"], costs["pgd-100"]["backwards"]) == (10_100, 10_000)
    assert (costs["fgsm"]["forwards"], costs["fgsm"]["backwards"]) == (200, 100)
    assert costs["clean"]["forwards"] == 100
    assert costs["pgd-100"]["seconds"] > costs["pgd-20"]["seconds"] > 0
    assert not (in_tmp / "results").exists()
    robench("eval", "--model", model, "--attack", "fgsm", "--n", 40)
    ran = robench("eval", "--model", model, "--attack", "fgsm", "--n", 100, "--dry-run", "--format", "json")
    assert {cost["name"]: cost["examples"] for cost in json.loads(ran.out)} == {"clean": 60, "fgsm": 60}


def test_train_says_what_it_used_and_where_the_checkpoint_lies(robench: Run, in_tmp: Path) -> None:
    ran = robench("train", "--defense", "ald_trades", "--epochs", 1, "--limit", 200, "--set", "particles=3")
    assert ran.code == 0, ran.err
    path = Path(ran.out.strip())
    assert path.is_file()
    assert "particles=3" in ran.err
    assert "eps=0.2" in ran.err
    evaluated = robench("eval", "--model", path, "--attack", "fgsm", "--n", 10, "--format", "json")
    assert json.loads(evaluated.out)["threat"] == "linf 0.2"


BENCHMARK = """
dataset: digits
eps: 0.1
epochs: 1
limit: 128
n: 40
attacks: [fgsm, pgd-10]
train: {batch_size: 32}
defenses: [standard, {defense: ald_pgd, set: {particles: 2}}]
models: [digits.pt]
seeds: [0, 1]
"""


def test_bench_trains_evaluates_ranks_and_reuses(robench: Run, model: Path, in_tmp: Path) -> None:
    (in_tmp / "mine.yaml").write_text(BENCHMARK)
    ran = robench("bench", "mine.yaml")
    assert ran.code == 0, ran.err
    frame = pd.read_csv(in_tmp / "results" / "leaderboard.csv")
    assert len(frame) == 5
    assert frame.columns.tolist() == [*FIXED, "fgsm", "pgd-10"]
    best = frame.groupby("defense", sort=False, dropna=False)["worst_case"].max()  # seeds stand together
    assert best.is_monotonic_decreasing
    assert frame["worst_case"].between(0, 1).all()
    assert ((frame["worst_case_low"] <= frame["worst_case"]) & (frame["worst_case"] <= frame["worst_case_high"])).all()
    assert sorted(frame["seed"]) == [0, 0, 0, 1, 1]
    assert "| digits |" in (in_tmp / "results" / "leaderboard.md").read_text()
    page = (in_tmp / "results" / "leaderboard.html").read_text()
    assert page.count("<article") == page.count('class="gallery"') == 5
    again = robench("bench", "mine.yaml")
    assert again.code == 0
    assert again.out == ran.out
    assert again.err.count("using results") == 4
    assert "examples" not in again.err
    assert robench("leaderboard", "--format", "csv").out == (in_tmp / "results" / "leaderboard.csv").read_text()
    assert len(json.loads(robench("leaderboard", "--format", "json").out)) == 5


@pytest.mark.parametrize("kind", ["attacks", "defenses", "suites", "datasets", "models", "benchmarks"])
def test_what_is_listed_can_be_shown(robench: Run, in_tmp: Path, kind: str) -> None:
    listed = robench("list", kind)
    assert listed.code == 0
    names = [line.split()[0] for line in listed.out.splitlines()]
    assert names
    for name in names:
        shown = robench("show", kind.removesuffix("s"), name)
        assert shown.code == 0, shown.err
        assert shown.out.strip()


def test_show_tells_settings_and_source(robench: Run) -> None:
    assert "steps: 30" in robench("show", "attack", "cw-30").out
    assert "Carlini" in robench("show", "attack", "cw-30").out
    assert "setup: cifar10_ald" in robench("show", "defense", "ald_trades").out


def test_doctor_finds_what_is_here(robench: Run, in_tmp: Path) -> None:
    ran = robench("doctor")
    assert ran.code == 0
    assert "ok   torch" in ran.out
    assert "ok   dataset digits: 500 test images" in ran.out
    assert "LACK dataset cifar10" in ran.out
    assert "results folder" in ran.out


def bad_files(folder: Path, model: Path) -> None:
    """Everything that the mistakes below need."""
    whole = model.read_bytes()
    (folder / "cut.pt").write_bytes(whole[: len(whole) // 3])
    torch.save({"state_dict": Opener(str(folder / "ran"))}, folder / "code.pt")
    torch.save(build("lenet", (1, 28, 28), 10).state_dict(), folder / "lenet.pt")
    state = build("digit_cnn", (1, 8, 8), 10).state_dict()
    torch.save({**state, "hidden.bias": state["hidden.bias"] * torch.nan}, folder / "nan.pt")
    x, y = np.random.default_rng(0).random((4, 1, 8, 8)), np.array([0, 1, 2, 3])
    np.savez(folder / "bright.npz", x_test=x * 2, y_test=y)
    np.savez(folder / "labels.npz", x_test=x, y_test=y + 20)
    np.savez(folder / "empty.npz", x_test=x[:0], y_test=y[:0])
    (folder / "key.yaml").write_text("dataset: digits\neps: 0.1\ndefences: [standard]\n")
    (folder / "type.yaml").write_text("dataset: digits\neps: 0.1\nseeds: zero\n")
    (folder / "broken.yaml").write_text("dataset: [digits\n")
    (folder / "attack.yaml").write_text("dataset: digits\neps: 0.1\nattacks: [pdg-20]\ndefenses: [standard]\n")
    (folder / "file").write_text("not a folder")


class Opener:
    def __init__(self, where: str) -> None:
        self.where = where

    def __reduce__(self) -> Any:
        return (open, (self.where, "w"))


EVAL = ("eval", "--model", "digits.pt", "--attack", "fgsm", "--n", "5")
BARE = ("--arch", "digit_cnn", "--attack", "fgsm", "--n", "5")
MISTAKES: dict[str, tuple[tuple[str, ...], str]] = {
    "no such checkpoint": (("eval", "--model", "nope.pt"), "there is no checkpoint nope.pt"),
    "truncated checkpoint": (("eval", "--model", "cut.pt", *BARE), "not a whole checkpoint"),
    "a pickle that runs code": (("eval", "--model", "code.pt", *BARE), "would run code"),
    "another architecture": (("eval", "--model", "lenet.pt", *BARE), "another architecture"),
    "NaN weights": (("eval", "--model", "nan.pt", *BARE), "not finite"),
    "no architecture": (("eval", "--model", "lenet.pt"), "--arch"),
    "unknown architecture": (("eval", "--model", "lenet.pt", "--arch", "lennet"), "did you mean 'lenet'"),
    "images outside [0, 1]": ((*EVAL, "--dataset", "npz:bright.npz"), "images in [0, 1]"),
    "labels out of range": ((*EVAL, "--dataset", "npz:labels.npz", "--eps", "0.1"), "labels below 10"),
    "empty data set": ((*EVAL, "--dataset", "npz:empty.npz"), "is empty"),
    "missing data set": ((*EVAL, "--dataset", "cifar10"), "--download"),
    "unknown data set": ((*EVAL, "--dataset", "digit"), "did you mean 'digits'"),
    "unknown attack": ((*EVAL, "--attack", "pdg-20"), "did you mean 'pgd-20'"),
    "unknown suite": ((*EVAL, "--suite", "quik"), "did you mean 'quick'"),
    "unknown setting": ((*EVAL, "--attack", "pgd-20:stepsize=1"), "did you mean 'step_size'"),
    "YAML in a setting": ((*EVAL, "--attack", "pgd-20:steps=[1"), "steps="),
    "negative eps": ((*EVAL, "--eps", "-0.1"), "expected"),
    "unknown norm": ((*EVAL, "--norm", "l1"), "linf, l2"),
    "negative n": (("eval", "--model", "digits.pt", "--attack", "fgsm", "--n", "-5"), "n of at least 1"),
    "negative seed": ((*EVAL, "--seed", "-1"), "seed of at least 0"),
    "no batch": ((*EVAL, "--batch-size", "0"), "at least 1"),
    "no device": ((*EVAL, "--device", "tpu"), "cpu or cuda"),
    "means that are none": ((*EVAL, "--mean", "a,b"), "numbers"),
    "a std of zero": ((*EVAL, "--mean", "0", "--std", "0"), "std above 0"),
    "results that cannot be written": ((*EVAL, "--results", "file"), "cannot be written"),
    "unknown defense": (("train", "--defense", "tradse"), "did you mean 'trades'"),
    "unknown --set key": (("train", "--defense", "trades", "--set", "bta=1"), "did you mean 'beta'"),
    "--set without a value": (("train", "--defense", "trades", "--set", "beta"), "key=value"),
    "negative eps in training": (("train", "--defense", "trades", "--eps", "-1"), "expected"),
    "negative epochs": (("train", "--defense", "trades", "--epochs", "-3"), "greater than 0"),
    "a checkpoint in no folder": (("train", "--defense", "standard", "--epochs", "1", "--out", "file/m.pt"), "file"),
    "a folder as a checkpoint": (("train", "--defense", "standard", "--out", "."), "the folder"),
    "unknown benchmark": (("bench", "quickstat"), "did you mean 'quickstart'"),
    "unknown YAML key": (("bench", "key.yaml"), "did you mean 'defenses'"),
    "wrong YAML type": (("bench", "type.yaml"), "seeds"),
    "broken YAML": (("bench", "broken.yaml"), "not YAML"),
    "unknown attack in YAML": (("bench", "attack.yaml"), "did you mean 'pgd-20'"),
    "no such YAML": (("bench", "none.yaml"), "there is no file none.yaml"),
    "nothing to rank": (("leaderboard",), "robench bench quickstart"),
    "nothing of that name": (("show", "attack", "pgd-21"), "did you mean"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_gets_one_sentence_and_exit_code_2(robench: Run, model: Path, in_tmp: Path, mistake: str) -> None:
    bad_files(in_tmp, model)
    arguments, message = MISTAKES[mistake]
    ran = robench(*arguments)
    assert ran.code == 2, ran
    assert ran.out == ""
    last = ran.err.strip().splitlines()[-1]
    assert last.startswith("robench: ")
    assert message in last
    assert "Traceback" not in ran.err
    assert not (in_tmp / "ran").exists()


def test_help_loads_nothing_heavy() -> None:
    program = (
        "import sys; sys.argv = ['robench', '--help']\n"
        "from robench.cli.main import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'torchvision', 'pandas', 'pyarrow', 'sklearn', 'scipy', 'accelerate'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "bench" in done.stdout


def test_python_has_the_same_words(digits_model: Trained, in_tmp: Path) -> None:
    import robench

    trained = robench.train("standard", epochs=1, limit=64)
    assert trained.path.is_file()
    summary = robench.evaluate(trained.path, attacks=["fgsm"], n=20)
    assert summary.n == 20
    assert robench.leaderboard()["model"].tolist() == [trained.path.stem]
    assert robench.load_model(trained.path).card == trained.card
    x, y = digits_model.split.floats(slice(20)), digits_model.split.labels[:20]
    x_adv = robench.attack("pgd-20")(digits_model.model, x, y, eps="0.2")
    assert (x_adv - x).abs().max() <= 0.2 + 1e-6
    assert (digits_model.model(x_adv).argmax(1) != y).float().mean() > 0.7
    with pytest.raises(UserError, match="images="):
        robench.attack("feature")(digits_model.model, x, y, eps=0.1)
    pool = (digits_model.split.floats(slice(100, 200)), digits_model.split.labels[100:200])
    robench.attack("feature:targets=2,steps=5")(digits_model.model, x, y, eps=0.1, images=pool)
    with pytest.raises(AttributeError):
        robench.no_such_thing  # noqa: B018


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (torch.full((2, 1, 8, 8), 1.5), torch.tensor([0, 1]), "images in"),
        (torch.zeros(2, 1, 8, 8), torch.tensor([0, 12]), "labels below 10"),
        (torch.ones(2, 1, 8, 8, dtype=torch.uint8), torch.tensor([0, 1]), "uint8"),
        (torch.zeros(2, 1, 8, 8), None, "plain arrays"),
        ([], torch.tensor([0, 1]), "channels"),
        (torch.zeros(2, 1, 8, 8), torch.tensor([0]), "one label each"),
    ],
)
def test_an_attack_from_python_checks_what_it_is_given(
    x: torch.Tensor, y: torch.Tensor, message: str, digits_model: Trained
) -> None:
    with pytest.raises(UserError, match=message):
        api.attack("fgsm")(digits_model.model, x, y, eps=0.1)


def test_a_defense_of_a_benchmark_may_start_from_another(robench: Run, in_tmp: Path) -> None:
    def write(order: str) -> None:
        (in_tmp / "chain.yaml").write_text(
            "{eps: 0.2, attacks: [fgsm], n: 4, limit: 128, epochs: 1, seeds: [0, 1], train: {holdout: 0}, defenses: "
            f"{order}}}"
        )

    write("[pgd_at, {defense: pgd_at, set: {steps: 2}}, {defense: lat, init: pgd_at}]")
    ran = robench("bench", "chain.yaml")
    assert ran.code == 0, ran.err
    paths = sorted((in_tmp / "results" / "checkpoints").glob("*.pt"))
    assert len(paths) == 6
    from robench.models import checkpoint

    inits = {card.recipe["init"] for path in paths if (card := checkpoint.card_of(checkpoint.read(path)))}
    assert len(inits - {None}) == 2  # one for each seed
    assert robench("bench", "chain.yaml").err.count("using results") == 6
    write("[{defense: lat, init: pgd_at}, pgd_at]")
    assert "unknown defense before lat 'pgd_at'" in robench("bench", "chain.yaml").err


WRONG = {
    "attack": ("eval --model m.pt --attack pdg-20", "did you mean 'pgd-20'"),
    "attack's file": ("eval --model m.pt --attack mine.py:steps=2", "there is no file mine.py"),
    "suite": ("eval --model m.pt --suite quik", "did you mean 'quick'"),
    "model": ("eval --model nope.pt", "there is no checkpoint nope.pt"),
    "data set": ("eval --model m.pt --dataset digit", "did you mean 'digits'"),
    "architecture": ("eval --model m.pt --arch lennet", "did you mean 'lenet'"),
    "norm": ("eval --model m.pt --norm l1", "linf, l2"),
    "radius": ("eval --model m.pt --eps 8/", "a fraction such as 8/255"),
    "device": ("eval --model m.pt --device tpu", "cpu or cuda"),
    "gate": ("eval --model m.pt --fail-under 60", "did you mean 0.6?"),
    "model to verify": ("verify --model nope.pt --adversarial a.npz", "there is no checkpoint nope.pt"),
    "defense": ("train --defense tradse", "did you mean 'trades'"),
    "network to train": ("train --defense trades --arch resnet81", "did you mean 'resnet18'"),
    "benchmark": ("bench quickstat", "did you mean 'quickstart'"),
    "a benchmark's defense": ("bench mine.yaml", "did you mean 'pgd_at'"),
    "queue": ("reproduce reprodce", "did you mean 'reproduce'"),
    "item": ("reproduce --only nothing-*", "unknown item"),
    "attack to show": ("show attack pgd-21", "did you mean"),
    "table": ("table adt-table9", "did you mean 'adt-table"),
    "figure": ("figure adt-fig9", "did you mean 'adt-fig"),
}


def test_a_wrong_name_is_told_before_torch_is_loaded(in_tmp: Path) -> None:
    (in_tmp / "m.pt").touch()
    (in_tmp / "mine.yaml").write_text("{eps: 0.1, attacks: [fgsm], defenses: [pgd_a]}")
    program = f"""
import sys
from robench.cli.main import main
for name, (line, message) in {WRONG!r}.items():
    sys.argv = ["robench", *line.split()]
    sys.stderr = open("err", "w")
    try:
        main()
    except SystemExit as exit:
        sys.stderr.close()
        err = open("err").read()
        assert exit.code == 2 and err.startswith("robench: ") and message in err, (name, exit.code, err)
    else:
        assert False, name
    assert "torch" not in sys.modules, name
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
