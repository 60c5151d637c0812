from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import robench
from robench.evaluation.target import load_model
from robench.models.libraries.provider import Front
from robench.models.libraries.transformers import measured
from robench.utils.errors import UserError

transformers = pytest.importorskip("transformers")

IMAGES = np.random.default_rng(0).integers(0, 256, (3, 3, 32, 32), dtype=np.uint8)
X = torch.from_numpy(IMAGES) / 255


def vit(kind: str = "ViTForImageClassification") -> Any:
    torch.manual_seed(0)
    small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = transformers.ViTConfig(**small, image_size=32, patch_size=8, num_labels=5)
    return getattr(transformers, kind)(config).eval()


def processed(processor: Any, images: np.ndarray) -> Tensor:
    made = processor(images=list(images), return_tensors="pt", input_data_format="channels_first")
    pixels: Tensor = made["pixel_values"]
    return pixels


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A classifier and its image processor as transformers saves them."""
    vit().save_pretrained(tmp_path / "vit")
    size = {"height": 32, "width": 32}
    transformers.ViTImageProcessor(size=size, image_std=[0.2, 0.3, 0.4]).save_pretrained(tmp_path / "vit")
    return tmp_path / "vit"


def test_a_folder_gives_the_logits_that_transformers_gives(folder: Path) -> None:
    subject = load_model(f"hf:{folder}", shape=(3, 32, 32))
    pixels = processed(transformers.AutoImageProcessor.from_pretrained(folder), IMAGES)
    assert torch.allclose(subject.model(X), vit()(pixels).logits, atol=1e-5)
    assert subject.notices == []
    assert not subject.hidden
    with pytest.raises(UserError, match="takes images of 32x32, these are 28x28; --resize 32 --crop 32"):
        load_model(f"hf:{folder}", shape=(3, 28, 28))


def test_its_key_is_not_that_of_its_folder(folder: Path, in_tmp: Path) -> None:
    key = load_model(f"hf:{folder}").key()
    folder.rename(in_tmp / "elsewhere")
    assert load_model("hf:elsewhere").key() == key


def test_half_floats_are_judged_in_whole_ones(folder: Path) -> None:
    vit().half().save_pretrained(folder)
    assert load_model(f"hf:{folder}").model(X).dtype == torch.float32


def test_weights_that_are_not_there_are_not_drawn(folder: Path) -> None:
    vit("ViTModel").save_pretrained(folder)
    with pytest.raises(UserError, match="holds no weights for classifier"):
        load_model(f"hf:{folder}")


def test_without_an_image_processor_the_normalisation_is_asked_for(folder: Path) -> None:
    (folder / "preprocessor_config.json").unlink(missing_ok=True)
    (folder / "processor_config.json").unlink(missing_ok=True)
    with pytest.raises(UserError, match="nobody says how its images are normalised"):
        load_model(f"hf:{folder}")
    subject = load_model(f"hf:{folder};mean=0.5;std=0.25")
    assert torch.allclose(subject.model(X), vit()((X - 0.5) / 0.25).logits, atol=1e-5)


def test_what_is_not_there_is_not_fetched(hub: Path) -> None:
    with pytest.raises(UserError, match=f"not in a folder some/name or {hub}; --download fetches them"):
        load_model("hf:some/name")


@pytest.mark.parametrize(
    ("kind", "settings", "resize"),
    [
        ("ViTImageProcessor", {"size": {"height": 32, "width": 32}}, 32),
        ("ViTImageProcessor", {"size": {"height": 32, "width": 32}, "do_normalize": False}, 32),
        ("ViTImageProcessor", {"size": {"height": 32, "width": 32}, "do_rescale": False}, 32),
        ("ConvNextImageProcessor", {"size": {"shortest_edge": 32}, "crop_pct": 0.8}, 40),
        ("EfficientNetImageProcessor", {"size": {"height": 32, "width": 32}, "image_std": [0.2, 0.3, 0.4]}, 32),
        (
            "EfficientNetImageProcessor",
            {"size": {"height": 32, "width": 32}, "rescale_offset": True, "rescale_factor": 1 / 127.5},
            32,
        ),
        ("MobileViTImageProcessor", {"size": {"shortest_edge": 36}, "crop_size": {"height": 32, "width": 32}}, 36),
    ],
)
def test_image_processors_are_measured(kind: str, settings: dict[str, Any], resize: int) -> None:
    """Also those that normalise twice, or take blue before red."""
    processor = getattr(transformers, kind)(**settings)
    found = measured(processor, 3, "hf:it")
    assert (found.shape, found.resize) == ((3, 32, 32), resize)
    front = Front(found.mean, found.std, found.order)
    images = IMAGES[:, :, :1, :1].repeat(48, 2).repeat(48, 3)  # of one colour, whatever the crop
    expected = processed(processor, images)
    ours = front(torch.from_numpy(images) / 255)[:, :, :32, :32]
    assert torch.allclose(ours, expected.float(), atol=1e-4 * float(expected.abs().max()))


def test_an_image_processor_that_does_more_is_refused() -> None:
    class Grey:
        size, crop_pct = None, None

        def __call__(self, images: np.ndarray, **_: Any) -> dict[str, Tensor]:
            return {"pixel_values": torch.from_numpy(images / 255).mean(0, keepdim=True).expand(1, 3, -1, -1)}

    with pytest.raises(UserError, match="does more to pixels than normalise them"):
        measured(Grey(), 3, "hf:it")


def test_it_is_attacked_and_verified(folder: Path, in_tmp: Path) -> None:
    rng = np.random.default_rng(1)
    labels = vit()(X).logits.argmax(1).numpy()
    x = rng.integers(0, 256, (3, 3, 32, 32), dtype=np.uint8)
    np.savez("mine.npz", x_train=x, y_train=labels, x_test=IMAGES, y_test=labels)
    common: dict[str, Any] = {"dataset": "npz:mine.npz", "eps": "8/255"}
    summary = robench.evaluate(f"hf:{folder}", attacks=["pgd-10"], save_adversarial="advs", **common)
    found = robench.verify(f"hf:{folder}", "advs/pgd-10.npz", **common)
    assert found.n == 3
    assert summary.worst_case is not None
