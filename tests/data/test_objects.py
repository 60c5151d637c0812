"""Data given in Python: whatever their kind, the same images are the same data set."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, Dataset, IterableDataset, RandomSampler, Subset, TensorDataset
from torchvision.transforms import Compose, Normalize, RandomRotation, ToTensor

import robench
from robench.data import datasets
from robench.evaluation.plan import EvaluationOptions, plan_evaluation
from robench.utils.errors import UserError
from robench.utils.serialize import pack, unpack
from tests.helpers import Linear

LEVELS = torch.randint(256, (24, 3, 5, 6), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
X, Y = LEVELS / 255, torch.arange(24) % 3
LAST = LEVELS.permute(0, 2, 3, 1)


class Pictures(Dataset[Any]):
    """Images of PIL, as torchvision's sets have them, or what a transform makes of them."""

    def __init__(self, transform: Callable[[Any], Any] = lambda image: image, count: int = 24) -> None:
        self.transform, self.count = transform, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, row: int) -> tuple[Any, int]:
        return self.transform(Image.fromarray(LAST[row].numpy())), int(Y[row])


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Iterator[Any]:
        return zip(LEVELS, Y, strict=True)


class Rows(Pictures):
    """As Hugging Face's sets have them."""

    def __getitem__(self, row: int) -> Any:
        image, label = super().__getitem__(row)
        return {"img": image, "label": label}


PAIRS = TensorDataset(LEVELS, Y)

SAME: dict[str, Any] = {
    "tensors": (LEVELS, Y),
    "arrays": (LEVELS.numpy(), Y.numpy()),
    "channels last": (LAST, Y),
    "lists": [LEVELS.tolist(), Y.tolist()],
    "a list of PIL": (list(map(Image.fromarray, LAST.numpy())), Y),
    "whole floats": (LEVELS.float(), Y.float()),
    "one-hot": (LEVELS, torch.eye(3)[Y]),
    "TensorDataset": PAIRS,
    "DataLoader": DataLoader(PAIRS, batch_size=7),
    "Subset": Subset(PAIRS, range(24)),
    "PIL": Pictures(),
    "dictionaries": Rows(),
    "pairs": list(zip(LEVELS, Y, strict=True)),
    "two parts": {"train": (LEVELS[:4], Y[:4]), "test": PAIRS},
    "keys": {"images": LEVELS, "labels": Y},
    "keys of parts": {"x_val": LEVELS, "y_val": Y, "x_train": LEVELS[:5], "y_train": Y[:5]},
    "iterable": Stream(),
    "loader of single examples": DataLoader(PAIRS, batch_size=None),
    "loader of a stream": DataLoader(Stream(), batch_size=5),
    "Split": datasets.Split("mine", LEVELS, Y),
}


@pytest.mark.parametrize("kind", SAME)
def test_the_same_images_are_the_same_data_set(kind: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x_test=LEVELS.numpy(), y_test=Y.numpy())
    split = datasets.load(SAME[kind], "test")
    assert split.fingerprint == datasets.load(f"npz:{tmp_path}/a.npz", "test").fingerprint
    assert torch.equal(split.images[:], LEVELS)
    assert split.name == f"{split.word} (test)"


def test_transforms_to_tensors_give_floats() -> None:
    split = datasets.load(Pictures(ToTensor()), "test")
    assert torch.equal(split.images[:], X)
    assert split.word == f"python:Pictures-{split.fingerprint[:6]}"
    assert split.fingerprint == datasets.load((X.double().requires_grad_(), Y), "test").fingerprint


def test_grey_pictures_among_colours() -> None:
    grey = Image.fromarray(LAST[0, ..., 0].numpy())
    split = datasets.load([(grey, 0), (Image.fromarray(LAST[1].numpy()), 1)], "test")
    assert torch.equal(split.images[0], LEVELS[0, :1].expand(3, -1, -1))


class Broken(Pictures):
    def __getitem__(self, row: int) -> Any:
        raise KeyError(row)


REFUSED: dict[str, tuple[Any, str]] = {
    "shuffled": (DataLoader(PAIRS, shuffle=True), "RandomSampler, in an order of its own; give loader.dataset"),
    "batches": (
        DataLoader(PAIRS, batch_sampler=BatchSampler(RandomSampler(PAIRS), 4, False)),
        "by RandomSampler, in an order",
    ),
    "sampled": (DataLoader(PAIRS, sampler=RandomSampler(PAIRS)), "shuffle=False"),
    "cut": (DataLoader(PAIRS, batch_size=7, drop_last=True), "drop_last=False"),
    "normalised": (Pictures(Compose([ToTensor(), Normalize([0.5], [0.25])])), "undo their normalisation"),
    "random": (Pictures(Compose([RandomRotation(90), ToTensor()])), "leave random transforms out"),
    "sizes": (Pictures(lambda image: image.resize((8, 8)) if image.getpixel((0, 0))[0] > 99 else image), "of one size"),
    "swapped": ((Y, LEVELS), r"got \(24,\)"),
    "three": ((LEVELS, Y, Y), "got a tuple of 3"),
    "images alone": (LEVELS, r"expected a data set's name, a path, \(x, y\), .* got Tensor"),
    "triples": ([(LEVELS[0], 1, 2)], "got 3 values"),
    "a number": (3, "got int"),
    "bytes": (b"digits", "got bytes"),
    "text labels": ((LEVELS, ["a"] * 24), "got text"),
    "fewer labels": ((LEVELS, Y[:5]), "one label each"),
    "no test": ({"train": PAIRS}, "a data set with test images, got train"),
    "no labels": ((LEVELS, None), "Python objects"),
    "empty": ([], "is empty"),
    "broken": (Broken(), "cannot be read: KeyError: 0"),
    "a path": (Path("nowhere"), "no file or folder nowhere"),
    "no name": ("", "unknown dataset ''"),
    "a name in a pair": (("digits", "digits"), "expected images"),
    "ragged": (([[1], [1, 2]], [0, 1]), "expected an array"),
    "unknown keys": ({"a": LEVELS, "b": LEVELS}, r"it holds a uint8 \(24, 3, 5, 6\)"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_refused_in_a_sentence(kind: str) -> None:
    source, message = REFUSED[kind]
    for call in (lambda: datasets.load(source, "test"), lambda: robench.evaluate(bright(), dataset=source, eps=0.1)):
        with pytest.raises(UserError, match=message) as caught:
            call()
        assert "\n" not in str(caught.value)


def bright() -> Linear:
    weight = torch.randn(3, 90, generator=torch.Generator().manual_seed(0))
    return Linear(weight, -weight.sum(1) / 2)


def test_a_path_is_recognised_by_what_it_leads_to(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=LEVELS.numpy(), y=Y.numpy())
    torch.save((LEVELS, Y), tmp_path / "a.pt")
    for folder in ("arrays", "both"):
        (tmp_path / folder).mkdir()
        np.save(tmp_path / folder / "x.npy", LEVELS.numpy())
        np.save(tmp_path / folder / "y.npy", Y.numpy())
    for folder in ("pictures/a", "pictures/b", "both/a"):
        (tmp_path / folder).mkdir(parents=True)
        Image.fromarray(LAST[0].numpy()).save(tmp_path / folder / "0.png")
    for place, word in (("a.npz", "npz"), ("a.pt", "pt"), ("arrays", "npy"), ("pictures", "imagefolder")):
        for source in (tmp_path / place, str(tmp_path / place)):
            assert datasets.load(source, "test").word == f"{word}:{tmp_path / place}"
    (tmp_path / "a.pkl").touch()
    for place, message in (("both", "npy:.* or imagefolder:.*; give that word"), ("a.pkl", "expected a file of data")):
        with pytest.raises(UserError, match=message):
            datasets.load(tmp_path / place, "test")


def test_a_data_root_is_a_path() -> None:
    with pytest.raises(UserError, match="expected the folder of all data as a path, got 3"):
        datasets.load("mnist", "test", root=3)  # type: ignore[arg-type]


def test_an_evaluation_of_two_parts_draws_its_pool_from_the_other(tmp_path: Path) -> None:
    labels = bright()(X).argmax(1)
    parts = {"train": (1 - X, bright()(1 - X).argmax(1)), "test": TensorDataset(X, labels)}
    planned = plan_evaluation(bright(), EvaluationOptions(attacks=["fgsm", "bb"], eps=0.02, dataset=parts))
    assert planned.images is not None
    assert torch.equal(planned.images.floats(slice(None)), 1 - X)
    assert torch.equal(planned.split.floats(slice(None)), X)


@pytest.mark.parametrize("source", [(X, Y), PAIRS, DataLoader(PAIRS, batch_size=5)])
def test_data_from_python_travel_to_workers(source: Any) -> None:
    planned = plan_evaluation(bright(), EvaluationOptions(attacks=["fgsm"], eps=0.02, dataset=source))
    travelled = unpack(pack(planned, "it"), "it")
    assert travelled.split.fingerprint == planned.split.fingerprint
    assert travelled.key(None) == planned.key(None)


@pytest.mark.slow
def test_workers_share_data_from_python(tmp_path: Path) -> None:
    asked: dict[str, Any] = {"attacks": ["fgsm"], "eps": 0.02, "batch_size": 6}
    first = robench.evaluate(bright(), dataset=PAIRS, workers=2, results=tmp_path / "a", **asked)
    second = robench.evaluate(bright(), dataset=(LEVELS, Y), results=tmp_path / "b", **asked)
    assert first.attacks["fgsm"].accuracy == second.attacks["fgsm"].accuracy


def test_a_training_on_data_from_python_goes_on_and_names_them(tmp_path: Path) -> None:
    asked: dict[str, Any] = {
        "arch": "digit_cnn",
        "eps": 0.1,
        "epochs": 1,
        "settings": {"holdout": 0, "batch_size": 8, "augment": []},
        "results": tmp_path,
    }
    grey = X[:, :1, :, :5].repeat(1, 1, 2, 2)[..., :8, :8]
    trained = robench.train("standard", dataset=(grey, Y), **asked)
    again = robench.train("standard", dataset=TensorDataset(grey, Y), resume=True, **asked)
    assert again.path.name.startswith("python-standard-s0-")
    assert again.card.inputs == trained.card.inputs
    with pytest.raises(UserError, match=r"python:arrays-\w{6} was given in Python and cannot be read by its name"):
        robench.evaluate(trained.path, attacks=["fgsm"], results=tmp_path)
    assert robench.evaluate(trained.path, dataset=(grey, Y), attacks=["fgsm"], results=tmp_path).n == 24


@pytest.mark.parametrize(
    "x", [X, X.numpy(), X.permute(0, 2, 3, 1), X.permute(0, 2, 3, 1).numpy(), LEVELS, X[:, 0], LEVELS[:, 0].numpy()]
)
def test_an_attack_answers_in_the_form_that_it_is_asked_in(x: Any) -> None:
    channels = 1 if x.ndim == 3 else 3
    model = Linear(torch.randn(3, 30 * channels, generator=torch.Generator().manual_seed(1)), torch.zeros(3))
    first: Tensor = (X if channels == 3 else X[:, :1]).contiguous()
    labels = model(first).argmax(1)
    expected = robench.attack("fgsm")(model, first, labels, eps=0.1)
    found = robench.attack("fgsm")(model, x, labels.numpy(), eps=0.1)
    assert type(found) is type(x)
    assert found.shape == x.shape
    as_first = torch.as_tensor(found)
    if x.shape[-1] == 3:
        as_first = as_first.permute(0, 3, 1, 2)
    assert torch.equal(as_first.reshape(expected.shape), expected)


def test_examples_of_others_as_arrays() -> None:
    model = bright()
    labels = model(X).argmax(1)
    x_adv = robench.attack("fgsm")(model, X, labels, eps=0.1)
    asked: dict[str, Any] = {"dataset": (X, labels), "eps": 0.1}
    fooled = int((model(x_adv).argmax(1) != labels).sum())
    for given in (x_adv, x_adv.numpy(), x_adv.permute(0, 2, 3, 1).numpy(), {"x_adv": x_adv, "ids": np.arange(24)}):
        assert robench.verify(model, given, **asked).fooled == fooled > 0
    wrong: list[tuple[Any, str]] = [({"x": x_adv}, "expected x_adv"), (x_adv[0], "x_adv of shape"), (3, "of shape")]
    for given, message in wrong:
        with pytest.raises(UserError, match=message):
            robench.verify(model, given, **asked)
