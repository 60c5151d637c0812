from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import pytest
import torch
import torchvision.transforms.v2.functional as T
from safetensors.torch import save_file

from robench.evaluation.target import load_model
from robench.utils.errors import UserError
from tests.models.libraries.conftest import on_hub

timm = pytest.importorskip("timm")

NAME = "test_vit.r160_in1k"
X = torch.rand(2, 3, 160, 160, generator=torch.Generator().manual_seed(0))


def test_a_model_of_the_hub_has_its_weights_and_its_normalisation(hub: Path) -> None:
    torch.manual_seed(0)
    public = timm.create_model(NAME).eval()
    save_file(public.state_dict(), on_hub(hub, f"timm/{NAME}") / "model.safetensors")
    subject = load_model(f"timm:{NAME}", shape=(3, 160, 160))
    told = timm.data.resolve_model_data_config(public)
    assert torch.allclose(subject.model(X), public(T.normalize(X, told["mean"], told["std"])), atol=1e-5)
    assert subject.notices == []
    assert not subject.hidden
    assert load_model(f"timm:{NAME}").key() == subject.key()
    with pytest.raises(UserError, match=r"takes images of 160x160, these are 32x32; --resize \d+ --crop 160"):
        load_model(f"timm:{NAME}", shape=(3, 32, 32))


def test_a_model_of_an_address_is_read_from_the_cache_of_torch(checkpoints: Path) -> None:
    name = "gcvit_xxtiny.in1k"
    public = timm.create_model(name).eval()
    url = timm.get_pretrained_cfg(name).url
    with pytest.raises(UserError, match=f"not in {checkpoints}"):
        load_model(f"timm:{name}")
    torch.save(public.state_dict(), checkpoints / Path(urlparse(url).path).name)
    weights = load_model(f"timm:{name}").model[1].state_dict()  # type: ignore[index]
    assert all(torch.equal(value, weights[key]) for key, value in public.state_dict().items())


def test_what_is_to_be_fetched_is(hub: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fetched(repository: str, file: str) -> str:
        assert (repository, file) == (f"timm/{NAME}", "model.safetensors")
        save_file(timm.create_model(NAME).state_dict(), tmp_path / file)
        return str(tmp_path / file)

    with pytest.raises(UserError, match=f"not in {hub}; --download"):
        load_model(f"timm:{NAME}")
    monkeypatch.setattr("huggingface_hub.hf_hub_download", fetched)
    assert load_model(f"timm:{NAME}", download=True).model(X).shape == (2, 1000)


def test_weights_of_a_file(tmp_path: Path) -> None:
    public = timm.create_model(NAME, num_classes=6).eval()
    torch.save(public.state_dict(), tmp_path / "mine.pt")
    subject = load_model(f"timm:test_vit;weights={tmp_path / 'mine.pt'};mean=0;std=1")
    assert torch.allclose(subject.model(X), public(X), atol=1e-6)


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("test_vitt", "did you mean 'test_vit"),
        ("test_vit.r1", "did you mean 'test_vit.r160_in1k'"),
        ("test_vit;weights=r160_in1k", "timm's own are named as timm:NAME.WEIGHTS"),
        ("test_vit;weights=none;classes=1", "at least 2 classes"),
        ("darknet17", "has no weights of darknet17"),
    ],
)
def test_what_there_is_not_is_refused(written: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_model(f"timm:{written}")


def test_what_gives_features_alone_is_refused() -> None:
    with pytest.raises(UserError, match="gives features and no logits"):
        load_model("timm:vit_small_patch14_dinov2;weights=none")


def test_without_timm_the_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "timm", None)
    with pytest.raises(UserError, match=r'pip install "robench\[timm\]"'):
        load_model("timm:resnet18")


def test_it_may_be_attacked_from_the_command_line(robench: Any, in_tmp: Path) -> None:
    name = "timm:test_efficientnet;weights=none;classes=10"
    command = ("--model", name, "--dataset", "digits@3x32x32", "--n", 4, "--attack", "transfer", "--source", name)
    ran = robench("eval", *command, "--format", "json")
    assert ran.code == 0, ran.err
    assert "was made for images of 160x160" in ran.err
    assert robench("eval", *command, "--format", "json").out == ran.out
