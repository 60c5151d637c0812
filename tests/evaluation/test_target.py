"""Checkpoints: ours, the field's, and those that nobody should trust."""

import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from robench.evaluation.target import load_model
from robench.models import build, checkpoint
from robench.models.checkpoint import Card
from robench.utils.errors import UserError

CARD = Card("lenet", [1, 28, 28], 10, [0.1], [0.3], "mnist", "linf", "0.3", "trades", {"name": "trades"}, 3)
X = torch.rand(2, 1, 28, 28, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def lenet() -> nn.Module:
    torch.manual_seed(0)
    return build("lenet", (1, 28, 28), 10, mean=[0.1], std=[0.3]).eval()


@pytest.fixture
def ours(tmp_path: Path, lenet: nn.Module) -> Path:
    checkpoint.save(tmp_path / "ours.pt", lenet, CARD)
    return tmp_path / "ours.pt"


def test_a_checkpoint_tells_everything_about_itself(ours: Path, lenet: nn.Module) -> None:
    subject = load_model(ours)
    assert subject.card == CARD
    assert torch.equal(subject.model(X), lenet(X))
    assert not subject.model.training


def wrappings(state: dict[str, Tensor]) -> dict[str, Any]:
    return {
        "bare": state,
        "net": {"net": state, "acc": 0.9, "epoch": 3},
        "state_dict": {"state_dict": {f"module.{name}": value for name, value in state.items()}},
        "model": {"model": {f"module.basic_net.{name}": value for name, value in state.items()}},
        "parallel": {f"module.{name}": value for name, value in state.items()},
    }


@pytest.mark.parametrize("kind", wrappings({}))
def test_public_checkpoints_are_unwrapped(kind: str, tmp_path: Path, lenet: nn.Module) -> None:
    torch.save(wrappings(lenet.state_dict())[kind], tmp_path / "public.pt")
    subject = load_model(tmp_path / "public.pt", arch="lenet", shape=(1, 28, 28), mean=[0.1], std=[0.3])
    assert torch.equal(subject.model(X), lenet(X))


def test_safetensors_are_read(tmp_path: Path, lenet: nn.Module) -> None:
    save_file(lenet.state_dict(), tmp_path / "public.safetensors")
    subject = load_model(tmp_path / "public.safetensors", arch="lenet", shape=(1, 28, 28), mean=[0.1], std=[0.3])
    assert torch.equal(subject.model(X), lenet(X))


def test_unused_weights_of_a_wide_resnet_are_dropped_with_a_notice(tmp_path: Path, lenet: nn.Module) -> None:
    torch.save({**lenet.state_dict(), "sub_block1.layer.0.conv1.weight": torch.zeros(1)}, tmp_path / "wrn.pt")
    assert "sub_block1" in load_model(tmp_path / "wrn.pt", arch="lenet", shape=(1, 28, 28)).notices[0]


def test_classes_come_from_the_last_layer(tmp_path: Path) -> None:
    torch.save(build("lenet", (1, 28, 28), 4).state_dict(), tmp_path / "four.pt")
    assert load_model(tmp_path / "four.pt", arch="lenet", shape=(1, 28, 28)).model(X).shape == (2, 4)


class Payload:
    def __reduce__(self) -> Any:
        return (open, (self.where, "w"))

    where = ""


@pytest.mark.parametrize("writer", ["torch", "pickle"])
def test_pickled_code_is_refused_and_does_not_run(writer: str, tmp_path: Path) -> None:
    payload = Payload()
    Payload.where = str(tmp_path / "ran")
    path = tmp_path / "evil.pt"
    if writer == "torch":
        torch.save({"state_dict": payload}, path)
    else:
        path.write_bytes(pickle.dumps(payload))
    with pytest.raises(UserError, match="would run code"):
        load_model(path, arch="lenet", shape=(1, 28, 28))
    assert not (tmp_path / "ran").exists()


BROKEN: dict[str, Callable[[bytes, dict[str, Tensor]], Any]] = {
    "cut": lambda whole, state: whole[: len(whole) // 2],
    "cut to a stub": lambda whole, state: whole[:3],
    "empty": lambda whole, state: b"",
    "text": lambda whole, state: b"not a checkpoint",
    "no tensors": lambda whole, state: {"epoch": 3},
    "a list": lambda whole, state: [1, 2],
    "NaN": lambda whole, state: {**state, "fc1.weight": state["fc1.weight"] * torch.nan},
    "lacks a layer": lambda whole, state: {name: state[name] for name in state if not name.startswith("fc2")},
    "another architecture": lambda whole, state: build("small_cnn", (1, 28, 28), 10).state_dict(),
    "another size": lambda whole, state: build("lenet", (1, 32, 32), 10).state_dict(),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_checkpoint_is_refused_in_one_sentence(
    kind: str, ours: Path, tmp_path: Path, lenet: nn.Module
) -> None:
    content = BROKEN[kind](ours.read_bytes(), lenet.state_dict())
    path = tmp_path / "broken.pt"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    with pytest.raises(UserError, match=r"broken\.pt") as caught:
        load_model(path, arch="lenet", shape=(1, 28, 28))
    assert "\n" not in str(caught.value)


def test_a_card_of_another_version_is_said(ours: Path) -> None:
    document = torch.load(ours, weights_only=True)
    document["card"]["colour"] = "blue"
    torch.save(document, ours)
    with pytest.raises(UserError, match="description"):
        load_model(ours)


def test_a_bare_state_dict_needs_an_architecture(tmp_path: Path, lenet: nn.Module) -> None:
    torch.save(lenet.state_dict(), tmp_path / "bare.pt")
    with pytest.raises(UserError, match="--arch"):
        load_model(tmp_path / "bare.pt")


def test_a_checkpoint_is_replaced_whole_or_not_at_all(ours: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = ours.read_bytes()

    def dies(document: Any, path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("robench.models.checkpoint.torch.save", dies)
    with pytest.raises(UserError, match="No space left on device"):
        checkpoint.save(ours, build("lenet", (1, 28, 28), 10), replace(CARD, seed=9))
    assert ours.read_bytes() == before
    assert list(ours.parent.iterdir()) == [ours]


class Scaled(nn.Module):
    def __init__(self, sign: float) -> None:
        super().__init__()
        self.sign = sign
        self.register_buffer("shift", torch.full((1,), sign), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.sign * x


class Holder(nn.Identity):
    def __init__(self, held: object) -> None:
        super().__init__()
        self.held = held


def test_what_a_module_is_beside_its_weights_is_in_the_key(lenet: nn.Module) -> None:
    keys = [load_model(nn.Sequential(Scaled(sign), lenet)).key() for sign in (1.0, -1.0, 1.0)]
    assert keys[0] == keys[2] != keys[1]
    assert load_model(build("lenet", (1, 28, 28), 10)).key() != load_model(lenet).key()
    for values in ([np.zeros(3), np.ones(3)], [{"scale": 1}, {"scale": 2}]):
        keys = [load_model(nn.Sequential(Holder(value), lenet)).key() for value in values]
        assert keys[0] != keys[1]


def test_the_normalisation_is_in_the_key(ours: Path) -> None:
    assert load_model(ours).key() != load_model(ours, mean=[0.2], std=[1.0]).key()


FACTORY = """
import torch
from torch import nn

def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 10))

def breaks():
    raise RuntimeError("no")

def five():
    return 5
"""


def test_a_factory_makes_a_model_and_nothing_else_of_its_file_is_in_the_key(tmp_path: Path) -> None:
    path, moved = tmp_path / "mine.py", tmp_path / "moved.py"
    path.write_text(FACTORY)
    subject = load_model(f"{path}:net")
    assert subject.model(X).shape == (2, 10)
    moved.write_text(FACTORY + "\n# changed\nUNRELATED = 5\n")
    assert load_model(f"{moved}:net").key() == subject.key()
    path.write_text(FACTORY.replace("nn.Flatten(),", "nn.Flatten(), nn.ReLU(),"))
    assert load_model(f"{path}:net").key() != subject.key()


@pytest.mark.parametrize(
    ("function", "message"), [("breaks", "RuntimeError: no"), ("five", "int"), ("nope", "found none")]
)
def test_a_factory_that_makes_none(function: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(FACTORY)
    with pytest.raises(UserError, match=message):
        load_model(f"{tmp_path / 'mine.py'}:{function}")
