"""What robench knows of each data set that has a name; torch is not imported."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from robench.data import readers
from robench.data.arrays import Arrays
from robench.data.parts import Part
from robench.data.readers import Reader
from robench.utils.errors import UserError


@dataclass(frozen=True)
class Dataset:
    """A data set: a line about it, how its files are read, the shape [C, H, W] of an image, how many classes and test
    images there are. `like` names the set whose settings it takes where a recipe has none for it. In place of a reader
    stands the word of a form, where its images stay on disk."""

    name: str
    about: str
    reader: Reader | str
    shape: tuple[int, int, int]
    classes: int
    test_images: int
    like: str | None = None

    def read(self, part: Part, root: Path, download: bool) -> Arrays:
        """One part of it. Raises UserError where its files are missing, or hold what it does not say."""
        assert not isinstance(self.reader, str)
        images, labels = self.reader(self.name, part, root, download)
        classes = int(labels.max()) + 1 if len(labels) else 0
        if images.shape[1:] != self.shape or classes > self.classes:
            raise UserError(
                f"dataset {self.name}: expected images of shape {self.shape} in {self.classes} classes, "
                f"got {images.shape[1:]} in {classes}"
            )
        return images, labels


_EMNIST = (
    *(("balanced", 47, 18_800), ("byclass", 62, 116_323), ("bymerge", 47, 116_323)),
    *(("digits", 10, 40_000), ("letters", 27, 20_800), ("mnist", 10, 10_000)),
)
"""Splits with their classes, of which torchvision leaves the first of the letters empty, and test images."""

_KNOWN = (
    Dataset("digits", "1,797 handwritten digits, 8x8, embedded (scikit-learn)", readers.digits, (1, 8, 8), 10, 500),
    Dataset(
        "mnist",
        "handwritten digits, 28x28, under --data-root in torchvision's layout",
        readers.torchvision("MNIST"),
        (1, 28, 28),
        classes=10,
        test_images=10_000,
    ),
    Dataset(
        "cifar10",
        "natural images of 10 classes, 32x32, likewise",
        readers.torchvision("CIFAR10"),
        (3, 32, 32),
        classes=10,
        test_images=10_000,
    ),
    Dataset(
        "cifar100",
        "natural images of 100 classes, 32x32, likewise",
        readers.torchvision("CIFAR100"),
        (3, 32, 32),
        classes=100,
        test_images=10_000,
        like="cifar10",
    ),
    Dataset(
        "svhn",
        "house numbers, 32x32, likewise",
        readers.torchvision("SVHN", folder="svhn"),
        (3, 32, 32),
        classes=10,
        test_images=26_032,
        like="cifar10",
    ),
    Dataset(
        "fashionmnist",
        "articles of clothing, 28x28, likewise",
        readers.torchvision("FashionMNIST"),
        (1, 28, 28),
        classes=10,
        test_images=10_000,
        like="mnist",
    ),
    Dataset(
        "kmnist",
        "Japanese characters in cursive, 28x28, likewise",
        readers.torchvision("KMNIST"),
        (1, 28, 28),
        classes=10,
        test_images=10_000,
        like="mnist",
    ),
    *(
        Dataset(
            f"emnist-{split}",
            f"handwritten letters and digits, 28x28, the split {split}, likewise",
            readers.torchvision("EMNIST", split=split),
            (1, 28, 28),
            classes,
            test_images,
            like="mnist",
        )
        for split, classes, test_images in _EMNIST
    ),
    Dataset(
        "stl10",
        "natural images of 10 classes, 96x96, likewise",
        readers.torchvision("STL10"),
        (3, 96, 96),
        classes=10,
        test_images=8_000,
        like="cifar10",
    ),
    Dataset(
        "imagenet",
        "ImageNet's 1,000 classes in folders imagenet/train and imagenet/val under --data-root, as torchvision unpacks "
        "them, through Resize(256) and CenterCrop(224) or what --resize and --crop say",
        "imagefolder:imagenet?resize=256&crop=224",
        (3, 224, 224),
        classes=1_000,
        test_images=50_000,
    ),
)

DATASETS = {dataset.name: dataset for dataset in _KNOWN}

FORMS = {
    "parquet:DIR": "a local copy of a Hugging Face image-classification set, here or under --data-root; "
    "?image=COLUMN&label=COLUMN names the columns where their names do not tell",
    "arrow:DIR": "such a set as its save_to_disk, or its cache, has it",
    "imagefolder:DIR": "image files DIR/train/CLASS/*.png and DIR/test (or DIR/val), or DIR/CLASS/*.png, the classes "
    "in sorted order",
    "npz:FILE": "NumPy arrays x_train, y_train, x_test, y_test, or others whose keys tell; ?image=KEY&label=KEY names "
    "them, ?layout=NHWC where the channels are",
    "npy:DIR": "likewise in files x_test.npy, y_test.npy",
    "pt:FILE": "likewise what torch.save (or, as safetensors:FILE, safetensors) wrote of tensors",
    "cifar10c:DIR:fog:3": "a corruption of CIFAR-10-C in a severity; cifar100c: likewise",
    "SET?resize=256&crop=224": "any of these through torchvision's Resize and CenterCrop, as --resize and --crop",
    "SET@CxHxW": "any of these in another shape: mnist@3x32x32, digits@1x28x28",
}
"""How a user's own images, and images in another shape, are named."""


def relative(name: str, shape: Sequence[int]) -> str | None:
    """The set whose settings a set takes that has none of its own: what it is `like`, or for one without an entry the
    first with images of the same shape [C, H, W]; None where none has."""
    alike = (each for each in _KNOWN if each.shape == tuple(shape))
    known = DATASETS.get(name) or next(alike, None)
    return (known.like or known.name) if known else None
