"""The logits in what a model gives: a tensor, or a part of a tuple, a mapping or an object with a field `logits`."""

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor, nn

from robench.utils.errors import UserError

Path = tuple[str | int, ...]
"""Where in an output: the keys, fields and positions that lead there."""


class LogitsOf(nn.Module):
    """A model of whose output only the logits [B, classes] at `path` are given."""

    def __init__(self, model: nn.Module, path: Path = ()) -> None:
        super().__init__()
        self.model, self.path = model, path

    def forward(self, x: Tensor) -> Tensor:
        found = self.model(x)
        for step in self.path:
            found = found[step] if isinstance(found, Mapping) or isinstance(step, int) else getattr(found, step)
        logits: Tensor = found.flatten(1)
        return logits


def path_of_logits(output: Any, images: int, classes: int, name: str) -> Path:
    """Where the logits of the model of that name are in its output for so many images; by `classes`, those of the data,
    where several tensors could be them. Raises UserError where that leaves none or several."""
    tensors = dict(_tensors(output))
    scores = {path: tensor for path, tensor in tensors.items() if _is_scores(tensor, images)}
    called = [path for path in scores if path and path[-1] == "logits"]
    fitting = [path for path, tensor in scores.items() if tensor.shape[1] == classes]
    for found in (called, list(scores), fitting):
        if len(found) == 1:
            return found[0]
    if not scores and any(tensor.numel() == images for tensor in tensors.values()):
        raise UserError(
            f"{name} gives one number for an image, where two classes are two logits: let it return "
            "torch.stack([torch.zeros_like(z), z], 1), z being the logit of class 1, torch.logit(p) of a probability p"
        )
    shapes = ", ".join(f"{_called(path)}{tuple(tensor.shape)}" for path, tensor in tensors.items())
    raise UserError(
        f"expected logits (images, classes) from {name}, got {shapes or type(output).__name__}; let it return the "
        "logits alone"
    )


def _tensors(output: Any, path: Path = ()) -> Iterator[tuple[Path, Tensor]]:
    if isinstance(output, Tensor):
        yield path, output
    for step, part in _parts(output):
        yield from _tensors(part, (*path, step))


def _parts(output: Any) -> Iterator[tuple[str | int, Any]]:
    if isinstance(output, Mapping):
        yield from output.items()
    elif isinstance(output, list | tuple):
        yield from enumerate(output) if not hasattr(output, "_fields") else zip(output._fields, output, strict=True)
    elif not isinstance(output, Tensor) and hasattr(output, "logits"):
        yield "logits", output.logits


def _is_scores(tensor: Tensor, images: int) -> bool:
    has_classes = tensor.dim() >= 2 and len(tensor) == images and tensor.shape[1] > 1
    return tensor.is_floating_point() and has_classes and tensor[0, 0].numel() == 1


def _called(path: Path) -> str:
    return ".".join(map(str, path)) + (" " if path else "")
