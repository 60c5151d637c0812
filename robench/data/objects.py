"""Images and labels from objects of Python: arrays, torch's data sets and loaders."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, IterableDataset, SequentialSampler

from robench.data import archives, arrays, pictures
from robench.data.arrays import Arrays
from robench.data.parts import Part, divided, named
from robench.utils.errors import UserError, first_line

LOOKED_AT_TWICE = 16
"""Images of a data set that must come out the same again."""

Examples = Callable[[], Iterator[tuple[Any, Any]]]
"""Images and labels one by one, from the first anew at each call."""

EXPECTED = 'a data set\'s name, a path, (x, y), {"train": ..., "test": ...}, or a Dataset or DataLoader of torch'


def part_of(source: Any, part: Part) -> Any:
    """What a dictionary of parts has for one; anything else is of either."""
    if not isinstance(source, Mapping) or not divided([key for key in source if isinstance(key, str)]):
        return source
    name = named(part, [key for key in source if isinstance(key, str)], "dataset")
    if name is None:
        raise UserError(f"expected a data set with {part} images, got {' and '.join(map(str, source))}")
    return source[name]


def called(source: Any) -> str:
    """What kind of data it is, in a word."""
    if isinstance(source, DataLoader):
        return called(source.dataset)
    return "arrays" if isinstance(source, Mapping | tuple | list) else type(source).__name__


def read(source: Any, part: Part) -> Arrays:
    """Images [N, C, H, W], uint8 or float32 in [0, 1], and labels [N] of one part, in the source's own order.

    Raises UserError where the order or the images differ from time to time, and where `robench/data/arrays.py` does.
    """
    where = f"dataset of {called(source)}"
    if isinstance(source, Mapping):
        found = {str(key): as_array(value, where) for key, value in archives.flattened(source).items()}
        return archives.chosen(found, part, where)
    if _is_pair(source):
        x, y = source
        return arrays.images(as_array(x, where), where, layout(x)), arrays.labels(as_array(y, where), where)
    items = _loaded(source, where) if isinstance(source, DataLoader) else _listed(source, where)
    first, again = (list(islice(_guarded(items(), where), LOOKED_AT_TWICE)) for _ in range(2))
    if len(first) != len(again) or not all(map(_same, first, again)):
        raise UserError(f"{where}: its images or their order change from time to time; leave random transforms out")
    return _stacked(_guarded(items(), where), where)


def layout(x: Any) -> str | None:
    """Of images [N, ., ., .] what their shape tells; of a tensor whose shape does not, torch's NCHW."""
    shape = tuple(getattr(x, "shape", ()))
    if len(shape) != 4:
        return None
    return arrays.layout_of(shape) or ("NCHW" if isinstance(x, Tensor) else None)


def as_array(value: Any, where: str) -> np.ndarray:
    """A tensor, or anything like an array, as one of NumPy's."""
    if isinstance(value, Tensor):
        value = value.detach().cpu()
        value = (value.float() if value.dtype == torch.bfloat16 else value).numpy()
    return arrays.plain(value, where)


def _is_pair(source: Any) -> bool:
    """Whether it is (x, y), and not a list of two such pairs, an example each."""
    if isinstance(source, tuple):
        if len(source) != 2:
            raise UserError(f"expected {EXPECTED}, got a tuple of {len(source)}")
        return True
    return isinstance(source, list) and len(source) == 2 and not any(isinstance(each, tuple) for each in source)


def _loaded(loader: "DataLoader[Any]", where: str) -> Examples:
    """The examples of a loader's batches, as a call."""
    if not isinstance(loader.dataset, IterableDataset) and (sampler := _own_order(loader)):
        raise UserError(
            f"{where}: its loader draws the images by {sampler}, in an order of its own; give loader.dataset, or a "
            "loader with shuffle=False"
        )
    if loader.drop_last:
        raise UserError(f"{where}: its loader leaves out a last batch that is not full; make it with drop_last=False")

    def items() -> Iterator[tuple[Any, Any]]:
        for batch in loader:
            x, y = _pair(batch, where)
            yield from (
                [(x, y)] if loader.batch_sampler is None and loader.batch_size is None else zip(x, y, strict=True)
            )

    return items


def _own_order(loader: "DataLoader[Any]") -> str | None:
    """The kind of sampler that gives a loader another order than that of its data set."""
    batches = loader.batch_sampler
    if batches is not None and type(batches) is not BatchSampler:
        return type(batches).__name__
    sampler = loader.sampler if batches is None else batches.sampler
    return None if isinstance(sampler, SequentialSampler) else type(sampler).__name__


def _listed(source: Any, where: str) -> Examples:
    """The examples of a data set, as a call."""
    by_row = hasattr(source, "__getitem__") and hasattr(source, "__len__")
    if isinstance(source, str | bytes | np.ndarray | Tensor) or not (by_row or isinstance(source, IterableDataset)):
        raise UserError(f"expected {EXPECTED}, got {type(source).__name__}")

    def items() -> Iterator[tuple[Any, Any]]:
        rows = (source[row] for row in range(len(source))) if by_row else source
        return (_pair(item, where) for item in rows)

    return items


def _guarded(examples: Iterator[tuple[Any, Any]], where: str) -> Iterator[tuple[Any, Any]]:
    """The same, whose errors are told in a sentence."""
    try:
        yield from examples
    except UserError:
        raise
    except Exception as error:  # whatever the user's data set does
        raise UserError(f"{where} cannot be read: {type(error).__name__}: {first_line(error)}") from None


def _pair(item: Any, where: str) -> tuple[Any, Any]:
    """The image and the label of an example, or of a batch."""
    if isinstance(item, Mapping):
        image, label = archives.keys_of(item, "test", where)
        return item[image], item[label]
    if isinstance(item, tuple | list) and len(item) == 2:
        return item[0], item[1]
    got = f"{len(item)} values" if isinstance(item, tuple | list) else type(item).__name__
    raise UserError(f"{where}: expected pairs of an image and its label, got {got}")


def _stacked(items: Iterable[tuple[Any, Any]], where: str) -> Arrays:
    found = [(_pixels(image, where), as_array(label, where)) for image, label in items]
    if not found:
        raise UserError(f"{where} is empty")
    images, labels = (list(each) for each in zip(*found, strict=True))
    if {image.shape[0] for image in images} == {1, 3}:  # grey among colours
        images = [np.broadcast_to(image, (3, *image.shape[1:])) for image in images]
    if len(sizes := sorted({image.shape for image in images})) > 1:
        raise UserError(
            f"{where}: expected images of one size, got {sizes[0]} and {sizes[-1]}; bring them to one in its transform"
        )
    if len({label.shape for label in labels}) > 1:
        raise UserError(f"{where}: expected one label an image, got labels of several shapes")
    return arrays.images(np.stack(images), where), arrays.labels(np.stack(labels), where)


def _pixels(image: Any, where: str) -> np.ndarray:
    return pictures.pixels(image) if isinstance(image, Image.Image) else as_array(image, where)


def _same(first: tuple[Any, Any], second: tuple[Any, Any]) -> bool:
    return all(np.array_equal(np.asarray(one), np.asarray(other)) for one, other in zip(first, second, strict=True))
