from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from robench.evaluation.target import load_model
from robench.models.libraries.robustbench import library
from robench.utils.errors import UserError

X = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
WONG = "robustbench:Wong2020Fast;dataset=cifar10"


@pytest.fixture(scope="module")
def zoo() -> Any:
    """RobustBench's models of CIFAR-10 for the l-infinity norm."""
    try:
        return next(iter(library("model_zoo").model_dicts.values()))[library("model_zoo.enums").ThreatModel.Linf]
    except UserError:
        pytest.skip("robustbench is not installed")


def public(zoo: Any) -> nn.Module:
    torch.manual_seed(0)
    model: nn.Module = zoo["Wong2020Fast"]["model"]()
    return model.eval()


def test_a_model_is_read_from_its_folder(zoo: Any, in_tmp: Path) -> None:
    model = public(zoo)
    for folder in ("models", "elsewhere"):
        path = Path(folder, "cifar10", "Linf", "Wong2020Fast.pt")
        path.parent.mkdir(parents=True)
        torch.save({f"module.{name}": value for name, value in model.state_dict().items()}, path)
    subject = load_model(WONG, shape=(3, 32, 32))
    assert torch.allclose(subject.model(X), model(X), atol=1e-6)
    assert subject.notices == []
    assert not subject.hidden
    assert load_model(f"{WONG};folder=elsewhere").key() == subject.key()


def test_what_is_not_there_is_not_fetched(zoo: Any, in_tmp: Path) -> None:
    with pytest.raises(UserError, match=r"models/cifar10/Linf/Wong2020Fast.pt, .*; --download fetches them"):
        load_model(WONG)
    with pytest.raises(UserError, match=r"Chen2020Adversarial\.pt_m0\.pt"):
        load_model("robustbench:Chen2020Adversarial")
    assert not Path("models").exists()


def test_what_another_library_would_fetch_is_not_either(zoo: Any, checkpoints: Path) -> None:
    with pytest.raises(UserError, match=rf"not in {checkpoints}, and download.pytorch.org is asked for nothing"):
        load_model("robustbench:Standard_R50;dataset=imagenet;threat=Linf")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Wong2020", "did you mean 'Wong2020Fast'"),
        ("Wong2020Fast", "expected one of robustbench's Wong2020Fast;dataset=cifar10;threat=Linf, "),
        ("Wong2020Fast;threat=L2", "expected one of robustbench's Wong2020Fast;dataset=cifar10;threat=Linf, "),
        (f"{WONG.partition(':')[2]};weights=mine.pt", "expected weights=none, or another folder"),
    ],
)
def test_what_cannot_be_meant_is_refused(zoo: Any, name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_model(f"robustbench:{name}")


def test_preprocessing_is_robustbenchs(zoo: Any) -> None:
    assert (
        "224x224, these are 32x32; --resize 256 --crop 224"
        in load_model("robustbench:Salman2020Do_R18;weights=none", shape=(3, 32, 32)).notices[0]
    )
