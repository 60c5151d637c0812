"""Adversarial examples made elsewhere, ours saved, and models that are functions on arrays."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import robench as api
from robench.models import build, checkpoint
from robench.utils.errors import UserError
from tests.helpers import Ran, Trained

Run = Callable[..., Ran]
EPS = 0.1


@pytest.fixture
def model_path(tmp_path: Path, digits_model: Trained) -> Path:
    shape = list(digits_model.split.shape)
    card = checkpoint.Card("digit_cnn", shape, 10, [0.0], [1.0], "digits", "linf", str(EPS), "standard", {}, 0)
    checkpoint.save(tmp_path / "model.pt", digits_model.model, card)
    return tmp_path / "model.pt"


def write(path: Path, **arrays: Any) -> Path:
    np.savez(path, **arrays)
    return path


def test_examples_of_another_tool_are_judged_one_by_one(tmp_path: Path, digits_model: Trained) -> None:
    x, y = digits_model.split.floats(slice(20)), digits_model.split.labels[:20]
    x_adv = api.attack("pgd-20")(digits_model.model, x, y, eps=EPS)
    x_adv[0, 0, 0, 0] = x[0, 0, 0, 0] + 1.01 * EPS  # outside the ball
    x_adv[1] = torch.where(x[1] == 0, -0.01, x[1])  # outside the box
    x_adv[2, 0, 3, 3] = torch.nan
    found = api.verify(
        digits_model.model, write(tmp_path / "a.npz", x_adv=x_adv.numpy(), x=x.numpy(), y=y.numpy()), eps=EPS
    )
    with torch.no_grad():
        clean, adversarial = (digits_model.model(images).argmax(1) for images in (x, x_adv))
    valid = torch.tensor([False] * 3 + [True] * 17)
    expected = (clean == y) & (adversarial != y) & valid
    assert found.rows["fooled"].tolist() == expected.tolist()
    assert found.rows["valid"].tolist() == valid.tolist()
    assert (found.not_finite, found.outside_box, found.outside_ball) == (1, 1, 1)
    robust = int(((clean == y) & ~expected & valid).sum())
    assert found.valid == 17
    assert found.robust is not None
    assert found.robust.value == robust / 17  # three x_adv are no evidence of robustness
    assert (found.at_least, found.at_most) == (robust / 20, int(((clean == y) & ~expected).sum()) / 20)
    assert found.clean.value == int((clean == y).sum()) / 20
    assert found.fooled == int(expected.sum()) > 0


def test_ids_name_rows_of_the_data_set_in_any_order(tmp_path: Path, digits_model: Trained) -> None:
    ids = np.array([40, 3, 17])
    x = digits_model.split.floats(ids)
    found = api.verify(digits_model.model, write(tmp_path / "a.npz", x_adv=x.numpy(), ids=ids), eps=EPS)
    assert found.rows["example"].tolist() == ids.tolist()
    assert found.rows["label"].tolist() == digits_model.split.labels[ids].tolist()
    assert found.fooled == 0
    assert found.largest_distance == 0


def test_uint8_and_rounding_to_it(tmp_path: Path) -> None:
    class Narrow(nn.Module):
        """Right unless the pixel is above 100.4 grey levels."""

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            lead = (x.flatten(1).mean(1, keepdim=True) * 255 - 100.4) * 100
            return torch.cat([-lead, lead], 1).repeat(1, 5)

    x = torch.full((1, 1, 8, 8), 100 / 255)
    for value, fooled, after in ((100.45, 1, 0), (100.6, 1, 1)):
        path = write(tmp_path / "a.npz", x_adv=torch.full_like(x, value / 255).numpy(), x=x.numpy(), y=np.array([0]))
        assert api.verify(Narrow(), path, eps=EPS).fooled == fooled
        assert api.verify(Narrow(), path, eps=EPS, eight_bit=True).fooled == after
    eight = write(tmp_path / "b.npz", x_adv=np.full((1, 1, 8, 8), 101, np.uint8), x=x.numpy(), y=np.array([0]))
    assert api.verify(Narrow(), eight, eps=EPS).fooled == 1


def test_what_eval_saves_verify_confirms(model_path: Path, in_tmp: Path, robench: Run) -> None:
    common = ("--model", model_path, "--n", 30, "--format", "json", "--results", in_tmp / "r")
    attacks = ("--attack", "pgd-10", "--attack", "rays:queries=60")
    plain = json.loads(robench("eval", *common, *attacks).out)
    ran = robench("eval", *common, *attacks, "--save-adversarial", in_tmp / "saved")  # again, with their images
    saved = json.loads(ran.out)
    assert saved["worst_case"] == plain["worst_case"]
    for name, file in (("pgd-10", "pgd-10.npz"), ("rays:queries=60", "rays_queries_60.npz")):
        arrays = np.load(in_tmp / "saved" / file)
        assert arrays["x_adv"].dtype == np.float32
        assert arrays["ids"].tolist() == list(range(30))
        shown = robench("verify", "--model", model_path, "--adversarial", in_tmp / "saved" / file, "--format", "json")
        found = json.loads(shown.out)
        assert found["robust"]["value"] == saved["attacks"][name]["accuracy"]
        assert found["fooled"] == saved["attacks"][name]["kills"]
        assert (found["outside_ball"], found["outside_box"], found["not_finite"]) == (0, 0, 0)
    more = robench("eval", *common[:2], "--n", 40, *attacks[:2], "--results", in_tmp / "r")
    assert more.code == 0
    again = ("--attack", "pgd-10", "--save-adversarial", in_tmp / "saved")
    robench("eval", *common[:2], "--n", 40, *again, "--results", in_tmp / "r")
    assert len(np.load(in_tmp / "saved" / "pgd-10.npz")["ids"]) == 40


@pytest.mark.parametrize(
    ("format", "start"), [("table", "model on 3 of digits (test)"), ("csv", "example,label"), ("md", "| examples |")]
)
def test_formats(model_path: Path, in_tmp: Path, robench: Run, digits_model: Trained, format: str, start: str) -> None:
    path = write(in_tmp / "a.npz", x_adv=digits_model.split.floats(slice(3)).numpy(), ids=np.arange(3))
    ran = robench("verify", "--model", model_path, "--adversarial", path, "--format", format)
    assert ran.code == 0
    assert ran.out.startswith(start)


def test_a_distance_that_is_not_finite_is_null_in_json(model_path: Path, in_tmp: Path, robench: Run) -> None:
    path = write(in_tmp / "a.npz", x_adv=np.full((1, 1, 8, 8), np.inf, np.float32), ids=np.arange(1))
    shown = robench("verify", "--model", model_path, "--adversarial", path, "--format", "json").out
    assert "Infinity" not in shown
    assert json.loads(shown)["not_finite"] == 1


def bad_archives() -> list[tuple[dict[str, Any], str]]:
    x = np.zeros((2, 1, 8, 8), np.float32)
    return [
        ({"x": x}, "expected x_adv, and x and y or ids"),
        ({"x_adv": x}, "expected x_adv, and x and y or ids"),
        ({"x_adv": x, "ids": np.array([0, 500])}, "expected ids from 0 to 499"),
        ({"x_adv": x, "ids": np.array([0])}, "expected x_adv of shape"),
        ({"x_adv": x, "ids": np.array([0.0, 1.0])}, "integers"),
        ({"x_adv": x.astype(int), "ids": np.arange(2)}, "uint8 or floats"),
        ({"x_adv": x, "x": x + 2, "y": np.arange(2)}, r"images in \[0, 1\]"),
        ({"x_adv": x, "x": x, "y": np.arange(2), "ids": np.zeros((2, 2))}, "expected ids of shape"),
        ({"x_adv": x, "x": x, "y": np.arange(2), "ids": np.array(1)}, "expected ids of shape"),
    ]


@pytest.mark.parametrize(("arrays", "words"), bad_archives())
def test_a_bad_archive_gets_one_sentence(
    tmp_path: Path, digits_model: Trained, arrays: dict[str, Any], words: str
) -> None:
    with pytest.raises(UserError, match=words):
        api.verify(digits_model.model, write(tmp_path / "a.npz", **arrays), eps=EPS)


def test_a_missing_or_cut_archive_gets_one_sentence(tmp_path: Path, digits_model: Trained) -> None:
    with pytest.raises(UserError, match="there is no file"):
        api.verify(digits_model.model, tmp_path / "none.npz", eps=EPS)
    (tmp_path / "cut.npz").write_bytes(b"PK\x03\x04 no more")
    with pytest.raises(UserError, match="not a readable archive"):
        api.verify(digits_model.model, tmp_path / "cut.npz", eps=EPS)


def scores_of(trained: Trained) -> Callable[[np.ndarray], np.ndarray]:
    def scores(images: np.ndarray) -> np.ndarray:
        assert images.dtype == np.float32
        with torch.no_grad():
            return np.asarray(trained.model(torch.from_numpy(images)))

    return scores


def test_a_function_on_arrays_falls_to_what_the_module_falls_to(tmp_path: Path, digits_model: Trained) -> None:
    scores = scores_of(digits_model)
    attacks = ["spsa:evaluations=16,steps=5", "rays:queries=100", "squares:queries=200"]
    of_function = api.evaluate(scores, attacks=attacks, eps=EPS, n=6, results=tmp_path / "f")
    of_module = api.evaluate(digits_model.model, attacks=attacks, eps=EPS, n=6, results=tmp_path / "m")
    for name in attacks:
        assert of_function.attacks[name].accuracy == of_module.attacks[name].accuracy
        assert of_function.attacks[name].kills == of_module.attacks[name].kills
        assert of_function.attacks[name].backwards == 0
    assert of_function.verdict.reliable is None


def test_a_function_that_gives_labels_gets_attacks_on_labels(tmp_path: Path, digits_model: Trained) -> None:
    scores = scores_of(digits_model)

    def labels(images: np.ndarray) -> np.ndarray:
        return np.asarray(scores(images).argmax(1))

    summary = api.evaluate(labels, eps=0.2, n=3, results=tmp_path)  # by default the suite black_box
    assert list(summary.attacks) == ["rays"]
    assert summary.skipped["spsa-256"] == "it needs scores, the model gives only labels"


@pytest.mark.usefixtures("short_autoattack")
def test_gradients_are_refused_in_one_sentence(tmp_path: Path, digits_model: Trained) -> None:
    scores = scores_of(digits_model)
    with pytest.raises(UserError, match="pgd-20 cannot be run: it needs gradients, the model gives only scores"):
        api.evaluate(scores, attacks=["pgd-20"], eps=EPS, n=3, results=tmp_path)
    whole = api.evaluate(scores, suite="atld", eps=EPS, n=1, results=tmp_path)
    assert list(whole.attacks) == ["autoattack", "rays"]  # of which Square needs no gradient
    assert whole.attacks["autoattack"].errors == 0
    assert "apgd-ce of autoattack" in whole.skipped


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda images: images, "expected scores"),
        (lambda images: "three", "expected scores"),
        (lambda images: np.full(len(images), 12), "expected labels from 0 to 9"),
        (lambda images: 1 / 0, "division by zero"),
        (42, "expected a checkpoint's path"),
    ],
)
def test_a_function_of_another_kind_gets_one_sentence(tmp_path: Path, function: Any, words: str) -> None:
    with pytest.raises(UserError, match=words):
        api.evaluate(function, eps=EPS, n=3, results=tmp_path)


@pytest.mark.usefixtures("short_autoattack")
def test_a_factory_may_give_a_function(in_tmp: Path, robench: Run) -> None:
    (in_tmp / "service.py").write_text(
        "import numpy as np\n"
        "def make():\n"
        "    def scores(images):\n"
        "        return np.stack([images.mean((1, 2, 3)) * k for k in range(10)], 1)\n"
        "    return scores\n"
    )
    ran = robench("eval", "--model", "service.py:make", "--n", 5, "--format", "json")
    assert ran.code == 0, ran.err
    assert set(json.loads(ran.out)["attacks"]) == {"spsa-256", "square", "rays"}


def test_a_model_saved_in_training_mode_with_dropout_is_evaluated_without(
    digits_model: Trained, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(build("digit_cnn", (1, 8, 8), 10), nn.Dropout(0.9)).train()
    first = api.evaluate(model, attacks=["fgsm"], eps=EPS, n=20, results=tmp_path)
    assert first.spread is None
    assert model.training


def test_functions_of_the_same_code_are_told_apart_by_their_answers() -> None:
    def linear(weight: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
        return lambda images: images.reshape(len(images), -1) @ weight

    weight = np.random.default_rng(0).random((64, 10))
    keys = [api.load_model(linear(w), shape=(1, 8, 8), classes=10).key() for w in (weight, -weight, weight)]
    assert keys[0] == keys[2] != keys[1]


def test_what_cannot_be_saved_is_said_before_anything_is_run(in_tmp: Path, digits_model: Trained) -> None:
    options: dict[str, Any] = {"eps": EPS, "n": 3, "results": in_tmp / "results"}
    both = ["pgd:step_size=eps/4", "pgd:step_size=eps*4"]
    with pytest.raises(UserError, match=r"would both be saved as pgd_step_size_eps_4.npz"):
        api.evaluate(digits_model.model, attacks=both, save_adversarial=in_tmp / "saved", **options)
    (in_tmp / "file").touch()
    with pytest.raises(UserError, match="file cannot be written"):
        api.evaluate(digits_model.model, attacks=["fgsm"], save_adversarial=in_tmp / "file", **options)
    assert not (in_tmp / "results").exists()


SHAKY = """
import os
from robench.losses import cross_entropy
from robench.search import sees

@sees("gradients", stops=True, one_at_a_time=True)
def shaky(search):
    x = search.project(search.x + search.eps * search.gradient(search.x, cross_entropy).sign())
    if os.environ.get("SHAKY"):
        raise RuntimeError("no")
    search.offer(x)
"""


def test_what_an_attack_left_where_it_failed_is_not_saved(
    in_tmp: Path, digits_model: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    (in_tmp / "shaky.py").write_text(SHAKY)
    for run in range(4):  # the files of images are read in an order of chance
        options: dict[str, Any] = {"eps": EPS, "n": 10, "results": in_tmp / f"{run}", "save_adversarial": in_tmp / "a"}
        monkeypatch.setenv("SHAKY", "1")
        assert api.evaluate(digits_model.model, attacks=["shaky.py"], **options).attacks["shaky"].errors
        monkeypatch.delenv("SHAKY")
        left = api.evaluate(digits_model.model, attacks=["shaky.py"], **options).attacks["shaky"].accuracy
        assert left == api.verify(digits_model.model, in_tmp / "a" / "shaky.npz", eps=EPS).robust
