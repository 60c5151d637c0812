from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import pytest
import torch
import torchvision.transforms.v2.functional as T
from torch import nn
from torchvision import models

from robench.evaluation.target import load_model
from robench.utils.errors import UserError

NAME = "squeezenet1_1"
X = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def public(seed: int = 0, **settings: Any) -> nn.Module:
    torch.manual_seed(seed)
    model: nn.Module = models.get_model(NAME, **settings)
    return model.eval()


@pytest.fixture
def cached(checkpoints: Path) -> nn.Module:
    """The model whose weights lie where torchvision keeps its own."""
    model = public()
    url = models.get_model_weights(NAME).DEFAULT.url
    torch.save(model.state_dict(), checkpoints / Path(urlparse(url).path).name)
    return model


def test_a_model_has_its_weights_and_its_normalisation(cached: nn.Module) -> None:
    subject = load_model(f"torchvision:{NAME}", shape=(3, 64, 64))
    told = models.get_model_weights(NAME).DEFAULT.transforms()
    assert torch.allclose(subject.model(X), cached(T.normalize(X, told.mean, told.std)), atol=1e-5)
    assert not subject.model.training
    assert "224x224, these are 64x64; --resize 256 --crop 224" in subject.notices[0]
    assert load_model(f"torchvision:{NAME};weights=IMAGENET1K_V1").key() == subject.key()
    assert not subject.hidden


def test_its_normalisation_may_be_another(cached: nn.Module) -> None:
    for subject in (
        load_model(f"torchvision:{NAME}", mean=[0.1], std=[0.3]),
        load_model(f"torchvision:{NAME};mean=0.1;std=0.3"),
    ):
        assert torch.allclose(subject.model(X), cached((X - 0.1) / 0.3), atol=1e-5)
        assert subject.key() != load_model(f"torchvision:{NAME}").key()


def test_what_is_not_in_the_cache_is_not_fetched(checkpoints: Path) -> None:
    with pytest.raises(UserError, match=rf"not in {checkpoints}; --download fetches them"):
        load_model(f"torchvision:{NAME}")


def test_what_is_to_be_fetched_is(checkpoints: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fetched(url: str, path: str, *_: Any, **__: Any) -> None:
        assert Path(urlparse(url).path).name == Path(path).name
        torch.save(public().state_dict(), path)

    monkeypatch.setattr(torch.hub, "download_url_to_file", fetched)
    key = load_model(f"torchvision:{NAME}", download=True).key()
    assert key == load_model(f"torchvision:{NAME}").key()


def test_files_that_would_run_code_are_not_read(checkpoints: Path) -> None:
    url = models.get_model_weights(NAME).DEFAULT.url
    torch.save({"classifier.1.weight": Path("code")}, checkpoints / Path(urlparse(url).path).name)
    with pytest.raises(UserError, match="cannot be loaded: UnpicklingError"):
        load_model(f"torchvision:{NAME}")


def test_weights_of_a_file_say_how_many_classes_there_are_and_not_their_normalisation(tmp_path: Path) -> None:
    model = public(num_classes=7)
    torch.save(model.state_dict(), tmp_path / "mine.pt")
    written = f"torchvision:{NAME};weights={tmp_path / 'mine.pt'}"
    with pytest.raises(UserError, match="nobody says how its images are normalised; add ;mean"):
        load_model(written)
    assert torch.equal(load_model(f"{written};mean=0;std=1").model(X), model(X))


def test_random_weights_are_the_same_each_time_and_disturb_nothing() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first, second = (load_model(f"torchvision:{NAME};weights=none;classes=4") for _ in range(2))
    assert torch.equal(torch.rand(3), expected)
    assert first.key() == second.key()
    assert first.model(X).shape == (2, 4)


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("squeezenet", "did you mean 'squeezenet1_"),
        ("", "expected torchvision:NAME, got 'torchvision:'"),
        ("no such thing", r"known: alexnet, .* and \d+ others"),
        (f"{NAME};weights=none;weights=DEFAULT", "each key once"),
        (f"{NAME};weights=V9", "expected weights=IMAGENET1K_V1, none or a file"),
        (f"{NAME};weight=none", "a key of weights, classes, mean, std, got 'weight'"),
        (f"{NAME};weights=", "got 'weights'"),
        (f"{NAME};classes=10", "classes= is for weights=none"),
        (f"{NAME};weights=none;classes=one", "at least 2 classes, got 'one'"),
        (f"{NAME};weights=none;mean=0.5", "mean and std together"),
        (f"{NAME};weights=none;mean=0.5;std=9", "in units of 0 to 255"),
        (f"{NAME};weights=none;mean=0.5,0.5;std=1", "expected 1 or 3 values"),
    ],
)
def test_what_cannot_be_meant_is_refused(written: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_model(f"torchvision:{written}")


def test_images_of_other_channels_are_refused() -> None:
    with pytest.raises(UserError, match="takes images of 3 channels, these have 1; DATASET@3x224x224"):
        load_model(f"torchvision:{NAME};weights=none", shape=(1, 224, 224))


def test_an_architecture_beside_the_name_is_refused() -> None:
    with pytest.raises(UserError, match="arch is said of a file of weights"):
        load_model(f"torchvision:{NAME};weights=none", arch="lenet")
