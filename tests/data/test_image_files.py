"""Folders of images as they are, of all sizes and modes: what torchvision makes of them, to the last image."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from torch import Tensor, nn
from torchvision import transforms
from torchvision.datasets import ImageFolder
from torchvision.transforms import CenterCrop, Compose, Resize, ToTensor, v2

from robench.data import datasets, pictures
from robench.data.stored import StoredImages
from robench.evaluation.plan import EvaluationOptions, plan_evaluation
from robench.evaluation.run import run
from robench.ledger.store import Ledger
from robench.utils.errors import Notice, UserError
from tests.helpers import Ran

SYNSETS = ["n01440764", "n01443537", "n01484850", "n02123045"]
MODES = ("RGB", "RGB", "L", "RGBA", "P", "CMYK", "LA", "1")
ORIENTATION = 0x0112


def photograph(generator: np.random.Generator, size: tuple[int, int], mode: str) -> Image.Image:
    """Blobs of colour of any size."""
    small = Image.fromarray(generator.integers(0, 256, (6, 7, 3), dtype=np.uint8))
    return small.resize(size, Image.Resampling.BICUBIC).convert(mode)


def write(folder: Path, count: int, low: int, high: int) -> Path:
    """As ImageNet's val lies on disk: JPEGs and some PNGs of all sizes and modes, one of them turned by its EXIF."""
    generator = np.random.default_rng(0)
    for number in range(count):
        mode = MODES[number % len(MODES)]
        width, height = (int(side) for side in generator.integers(low, high, 2))
        image = photograph(generator, (width, height), mode)
        place = folder / "val" / SYNSETS[number % len(SYNSETS)]
        place.mkdir(parents=True, exist_ok=True)
        exif = Image.Exif()
        exif[ORIENTATION] = 6 if number == 1 else 1
        ending = "JPEG" if mode in ("RGB", "L", "CMYK") else "png"
        image.save(place / f"ILSVRC2012_val_{number:08}.{ending}", exif=exif, quality=90)
    return folder


class Behind(nn.Module):
    """torchvision's network behind its normalisation."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.network((x - self.mean) / self.std)  # type: ignore[no-any-return,operator]


def resnet18(images: ImageFolder) -> nn.Module:
    """With random weights, but for a bias at which it does not answer all images alike."""
    torch.manual_seed(0)
    network = torchvision.models.resnet18(weights=None, num_classes=6)
    model = Behind(network).eval()
    with torch.no_grad():
        network.fc.bias -= model(torch.stack([images[row][0] for row in range(0, len(images), 10)])).mean(0)
    return model


def small_network() -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 5, stride=3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 10 * 10, 6)]
    return Behind(nn.Sequential(*layers)).eval()


def by_hand(model: nn.Module, images: ImageFolder, eps: float, steps: int) -> tuple[list[int], dict[int, Tensor]]:
    """Predictions, and of the images that are right the first iterate of PGD, begun at the image, that fools the model;
    in a loop of torchvision and torch alone."""
    predictions, found = [], {}
    for number, (x, label) in enumerate(images):
        x, y = x[None], torch.tensor([label])
        predictions.append(int(model(x).argmax()))
        x_adv = x.clone()
        for _ in range(steps if predictions[-1] == label else 0):
            x_adv.requires_grad_()
            (gradient,) = torch.autograd.grad(nn.functional.cross_entropy(model(x_adv), y), x_adv)
            x_adv = (x_adv.detach() + eps / 4 * gradient.sign()).clamp(x - eps, x + eps).clamp(0, 1)
            if int(model(x_adv).argmax()) != label:
                found[number] = x_adv[0]
                break
    return predictions, found


def torchvisions(folder: Path, resize: int, crop: int) -> ImageFolder:
    return ImageFolder(str(folder / "val"), Compose([Resize(resize), CenterCrop(crop), ToTensor()]))


def compare(model: nn.Module, folder: Path, resize: int, crop: int, eps: float, steps: int, results: Path) -> None:
    """Evaluates by robench and by hand, and asserts that every image is answered alike and that PGD goes the same way;
    but for pixels whose gradient is nothing but rounding."""
    attack = f"pgd:steps={steps},step_size=eps/4,random_start=false"
    asked: dict[str, Any] = {"dataset": folder, "resize": resize, "crop": crop, "eps": eps, "precision": "float32"}
    with pytest.warns(Notice, match="classes, numbered in sorted order: n01440764 is 0"):
        planned = plan_evaluation(model, EvaluationOptions(attacks=[attack], **asked))
    assert isinstance(planned.split.images, StoredImages)
    run(planned, results, save_adversarial=results / "x_adv")
    cells = [cell for cell in Ledger(results).cells() if not cell.found]
    rows = {cell.about["attack"]: cell.rows().sort_values("example") for cell in cells}
    images = torchvisions(folder, resize, crop)
    predictions, found = by_hand(model, images, eps, steps)
    assert rows["clean"]["clean_prediction"].tolist() == predictions
    right = [number for number, label in enumerate(images.targets) if predictions[number] == label]
    fooled = rows[attack]["fooled"].to_numpy()
    assert [number for number in right if fooled[number]] == list(found)
    assert 0 < len(found) <= len(right) < len(images)
    (archive,) = (results / "x_adv").glob("*.npz")
    x_adv = np.load(archive)["x_adv"]
    for number, theirs in found.items():
        assert np.mean(np.abs(x_adv[number] - theirs.numpy()) > 1e-6) < 0.01


def test_a_folder_of_any_images_is_torchvisions(tmp_path: Path) -> None:
    folder = write(tmp_path / "few", 12, 30, 70)
    compare(small_network(), folder, 36, 32, 1 / 255, 5, tmp_path / "results")


@pytest.mark.slow
def test_resnet18_on_200_files_is_torchvisions(tmp_path: Path) -> None:
    folder = write(tmp_path / "many", 200, 180, 420)
    model = resnet18(torchvisions(folder, 256, 224))
    compare(model, folder, 256, 224, 0.1 / 255, 20, tmp_path / "results")


def numbers(sides: Any) -> Any:
    return tuple(map(int, sides.split("x"))) if isinstance(sides, str) else sides


@pytest.mark.parametrize(("resize", "crop"), [(36, 32), ("40x36", "32x30"), ((33, 35), None), (None, 24), (None, 90)])
def test_the_pixels_are_torchvisions(resize: Any, crop: Any, tmp_path: Path) -> None:
    folder = write(tmp_path / "few", 16, 30, 70)
    found = datasets.load(f"imagefolder:{folder}", "test", resize=resize, crop=crop, stream=True)
    library: Any
    for library, last in ((transforms, "ToTensor"), (v2, "PILToTensor")):
        steps: list[Any] = [library.Resize(numbers(resize))] if resize else []
        steps += [library.CenterCrop(numbers(crop))] if crop else []
        theirs = ImageFolder(str(folder / "val"), library.Compose([*steps, getattr(library, last)()]))
        pixels = found.images[:] if library is v2 else found.floats(slice(None))
        assert torch.equal(pixels, torch.stack([x for x, _ in theirs]))
        assert found.labels.tolist() == theirs.targets
    assert list(found.names) == SYNSETS
    assert found.take([3, 1]).images.shape == (2, *found.shape)


def test_each_preparation_is_a_data_set_of_its_own(tmp_path: Path) -> None:
    folder = write(tmp_path / "few", 8, 30, 40)
    asked = [{"resize": 30, "crop": 28}, {"resize": 32, "crop": 28}, {"crop": 28}, {"resize": "30x30"}]
    found = [datasets.load(folder, "test", stream=True, **options) for options in asked]  # type: ignore[arg-type]
    assert len({split.fingerprint for split in found}) == len({split.name for split in found}) == 4
    assert found[0].name == "imagefolder:few?resize=30&crop=28 (test)"
    again = datasets.load(found[0].word, "test", stream=True)
    assert (again.fingerprint, again.name) == (found[0].fingerprint, found[0].name)
    turned = next((folder / "val").glob("*/*.png"))
    Image.open(turned).convert("RGB").transpose(Image.Transpose.ROTATE_180).save(turned)
    assert datasets.load(found[0].word, "test", stream=True).fingerprint != found[0].fingerprint
    with pytest.raises(UserError, match=r"says its own resize, and another was given; say it once"):
        datasets.load(found[0].word, "test", resize=40)


def test_preparations_of_images_in_memory(tmp_path: Path) -> None:
    x = torch.randint(256, (3, 3, 20, 24), dtype=torch.uint8)
    found = datasets.load((x, [0, 1, 2]), "test", resize=12, crop=8)
    images = [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in x]
    steps = Compose([Resize(12), CenterCrop(8), ToTensor()])
    assert torch.equal(found.floats(slice(None)), torch.stack([steps(image) for image in images]))
    with pytest.raises(UserError, match="expected images of 8 bits in 1 or 3 channels to resize or crop"):
        datasets.load((x / 255, [0, 1, 2]), "test", resize=12)


@pytest.mark.parametrize("said", ["0", "x", "12x", -3, 1.5, (1, 2, 3), [], True])
def test_sides_that_cannot_be(said: Any) -> None:
    with pytest.raises(UserError, match="expected resize in pixels, such as 224"):
        datasets.load("digits", "test", resize=said)


def test_only_what_is_asked_for_is_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write(tmp_path / "few", 12, 30, 40)
    decoded: list[str] = []
    decode = pictures.decode

    def counting(encoded: Any, where: str, **options: Any) -> np.ndarray:
        decoded.append(where)
        return decode(encoded, where, **options)

    monkeypatch.setattr(pictures, "decode", counting)
    split = datasets.load(folder, "test", stream=True, resize=30, crop=28)
    split.floats(slice(4, 6))
    assert split.fingerprint
    assert len(decoded) == 3  # the first tells the size


@pytest.mark.parametrize(
    ("folders", "part", "taken"),
    [
        (("train", "val"), "test", "val"),
        (("train", "valid", "test"), "test", "test"),
        (("Train", "Validation"), "test", "Validation"),
        (("training", "testing"), "train", "training"),
        ((), "test", ""),
        ((), "train", ""),
    ],
)
def test_the_folders_of_parts(folders: Sequence[str], part: Any, taken: str, tmp_path: Path) -> None:
    for level, name in enumerate(folders or ("",)):
        for kind in ("a", "b"):
            (tmp_path / name / kind).mkdir(parents=True)
            Image.new("RGB", (4, 4), (level + 1,) * 3).save(tmp_path / name / kind / "0.png")
    found = datasets.load(f"imagefolder:{tmp_path}", part)
    assert int(found.images[0, 0, 0, 0]) == [*folders, ""].index(taken) + 1 if folders else 1


def test_the_page_and_the_command_line_say_how_images_were_prepared(in_tmp: Path, robench: Callable[..., Ran]) -> None:
    write(in_tmp / "few", 12, 30, 40)
    Path("net.py").write_text(
        "import torch\ndef net():\n    torch.manual_seed(0)\n"
        "    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 64, 4))\n"
    )
    words = ("eval", "--model", "net.py:net", "--attack", "fgsm", "--eps", "0.01")
    ran = robench(*words, "--dataset", "few", "--resize", 10, "--crop", 8)
    assert ran.code == 0, ran.err
    assert "imagefolder:few?resize=10&crop=8 (test)" in ran.out + ran.err
    assert robench("leaderboard", "--format", "html").code == 0
    assert "imagefolder:few?resize=10&amp;crop=8" in Path("results/leaderboard.html").read_text()
    with pytest.raises(UserError, match=r"images of one size, got .* in .*n01440764/.*--resize 256 --crop 224"):
        datasets.load("imagefolder:few", "test")
