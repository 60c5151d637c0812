"""A plain module of one's own: trained, fine-tuned, saved and evaluated by the command line."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from robench.evaluation.plan import EvaluationOptions, plan_evaluation
from robench.evaluation.target import load_model
from robench.models import checkpoint
from robench.training.plan import plan_training
from robench.utils.errors import Notice, UserError
from tests.helpers import Ran

LAYERS = "from torch import nn\ndef conv(channels): return nn.Conv2d(channels, 4, 3, padding=1)\n"
NET = """
from torch import nn
from layers import conv

class Net(nn.Module):
    def __init__(self, channels, classes):
        super().__init__()
        self.conv, self.fc = conv(channels), nn.Linear(4, classes)

    def forward(self, x):
        return self.fc(self.conv(x).relu().mean((2, 3)))

def make(in_channels, num_classes):
    return Net(in_channels, num_classes)

def fixed():
    return Net(1, 7)

def ten():
    return Net(1, 10)
"""
QUICK = ("--epochs", 1, "--limit", 128, "--set", "holdout=0", "--set", "lr=0.000001")


@pytest.fixture
def own(in_tmp: Path) -> Path:
    (in_tmp / "lib").mkdir()
    (in_tmp / "lib" / "layers.py").write_text(LAYERS)
    (in_tmp / "lib" / "net.py").write_text(NET)
    return in_tmp


def test_it_is_trained_saved_and_evaluated(own: Path, robench: Callable[..., Ran]) -> None:
    options = ("--defense", "pgd_at", "--set", "steps=1", *QUICK, "--arch", "lib/net.py:make", "--out", "m.pt")
    trained = robench("train", *options)
    assert trained.code == 0, trained.err
    ran = robench("eval", "--model", "m.pt", "--attack", "fgsm", "--n", 8, "--arch", "lib/net.py:make")
    assert ran.code == 0, ran.err
    document = checkpoint.read(Path("m.pt"))
    document["card"]["arch"] = "lib/net.py:fixed"
    checkpoint.save_document(Path("other.pt"), document)
    with pytest.raises(UserError, match="to have that code run"):  # of that file, but not what was named of it
        load_model("other.pt")
    again = load_model("m.pt")
    assert again.card is not None
    assert again.card.arch == "lib/net.py:make"
    before = plan_training("pgd_at", arch="lib/net.py:make").key()
    (own / "lib" / "layers.py").write_text(LAYERS.replace("padding=1", "padding=0"))
    assert plan_training("pgd_at", arch="lib/net.py:make").key() != before
    assert load_model("m.pt", arch="lib/net.py:make").key() != again.key()


def test_it_begins_with_another_head(own: Path, robench: Callable[..., Ran]) -> None:
    theirs = load_model("lib/net.py:fixed").model
    torch.save({"model": theirs.state_dict()}, "begin.pt")
    options = ("--defense", "standard", *QUICK, "--arch", "lib/net.py:make", "--out", "m.pt")
    trained = robench("train", *options, "--init", "begin.pt")
    assert trained.code == 0, trained.err
    assert "the head (fc.weight, fc.bias) of begin.pt does not fit 10 classes: it starts afresh" in trained.err
    kept, begun = load_model("m.pt", arch="lib/net.py:make").model.state_dict(), theirs.state_dict()
    assert torch.allclose(kept["model.conv.weight"], begun["conv.weight"], atol=1e-3)
    torch.save({"backbone.weight": begun["conv.weight"]}, "other.pt")
    with pytest.raises(UserError, match="has no conv"):
        plan_training("standard", arch="lib/net.py:make", init="other.pt")


def test_all_of_a_head_that_is_not_there_starts_afresh_and_nothing_else(own: Path) -> None:
    state = load_model("lib/net.py:fixed").model.state_dict()
    torch.save({name: value for name, value in state.items() if "fc" not in name}, "begin.pt")
    with pytest.warns(Notice, match="starts afresh"):
        planned = plan_training("standard", arch="lib/net.py:make", init="begin.pt")
    assert planned.init is not None
    assert set(planned.init) == {"conv.weight", "conv.bias"}
    torch.save({**state, "conv.weight": torch.ones(4, 1, 5, 5)}, "begin.pt")
    with pytest.raises(UserError, match="misshapes conv"):
        plan_training("standard", arch="lib/net.py:make", init="begin.pt")


def test_one_of_another_number_of_classes_is_refused_before_it_is_trained(own: Path) -> None:
    with pytest.raises(UserError, match=r"logits of shape \(1, 10\) for an image from lib/net.py:fixed, got \(1, 7\)"):
        plan_training("standard", arch="lib/net.py:fixed")


def test_its_features_are_asked_for_in_a_sentence(own: Path, robench: Callable[..., Ran]) -> None:
    ran = robench("train", "--defense", "lat", *QUICK, "--arch", "lib/net.py:make")
    assert ran.code == 2
    assert "features are needed" in ran.err


def test_a_torchscript_archive_and_a_factory_are_normalised_in_every_place(own: Path) -> None:
    torch.manual_seed(0)
    with pytest.warns(FutureWarning):
        torch.jit.trace(load_model("lib/net.py:make", shape=(1, 8, 8), classes=10).model, torch.rand(1, 1, 8, 8)).save(  # type: ignore[no-untyped-call]
            "m.pt"
        )
    said = "mean=0.3;std=0.2"
    options = EvaluationOptions(attacks=["transfer-fgsm"], eps=0.1, sources=[f"m.pt;arch=torchscript;{said}"])
    planned = plan_evaluation(f"m.pt;arch=torchscript;{said}", options)
    plain = load_model("m.pt", arch="torchscript")
    x = torch.rand(4, 1, 8, 8)
    for subject in (planned.subject, planned.sources[0]):
        assert torch.allclose(subject.model(x), plain.model((x - 0.3) / 0.2), atol=1e-5)
        assert "normalised by a mean of 0.3" in subject.notices[0]
        assert subject.key() != plain.key()
    factory = plan_evaluation("lib/net.py:ten", EvaluationOptions(attacks=["fgsm"], mean=[0.3], std=[0.2]))
    assert np.allclose(next(factory.subject.model.buffers()), 0.3)
