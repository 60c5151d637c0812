"""What attacks raise and defenses lower: functions that give one value per example.

A loss is called with what a model gives [n, ...] (logits [n, C], unless it was asked for features), labels y [n], and
whatever else belongs to each example [n, ...], given *beside* the loss: the caller may split, repeat or drop examples,
and only what it is handed can be kept aligned with them.
"""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from types import CellType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robench.utils.errors import AttackError

Loss = Callable[..., Tensor]
"""loss(output [n, ...], y [n], *beside [n, ...]) -> [n], the value of each example, which depends on no other."""


def evaluated(loss: Loss, output: Tensor, y: Tensor, *beside: Tensor) -> Tensor:
    """The loss of each example [n]. Raises AttackError where it gives anything else, such as their mean."""
    value = loss(output, y, *beside)
    if not isinstance(value, Tensor) or value.shape != (len(output),):
        given = f"shape {list(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
        raise AttackError(
            f"expected the loss {_name(loss)} to give one value per example, shape [{len(output)}], got {given}"
        )
    return value


def check_self_contained(loss: Loss) -> None:
    """Raises AttackError for a loss that carries tensors with it: the examples it is called with may be others than
    those the tensors belong to."""
    for where, value in _carried(loss, set()):
        raise AttackError(
            f"the loss {_name(loss)} carries {where}, a {type(value).__name__}, with it; give what belongs to each "
            "example beside the loss: search.gradient(points, loss, tensor), with loss(output, y, tensor)"
        )


def _name(loss: Loss) -> str:
    return str(getattr(loss, "__name__", type(loss).__name__))


def _carried(value: Any, seen: set[int], where: str = "it") -> Iterator[tuple[str, Any]]:
    """The arrays that a value holds or closes over, by the names they have there."""
    if id(value) in seen or isinstance(value, str | bytes | int | float | complex | type | ModuleType | None):
        return
    seen.add(id(value))
    if isinstance(value, Tensor | np.ndarray):
        yield where, value
        return
    for name, held in _parts(value):
        yield from _carried(held, seen, name)


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    """What a value is made of, as far as it can be seen."""
    if isinstance(value, CellType):
        try:
            yield "a cell", value.cell_contents
        except ValueError:  # still empty
            return
    elif isinstance(value, Mapping):
        yield from ((str(key), held) for key, held in value.items())
    elif isinstance(value, list | tuple | set | frozenset):
        yield from ((f"element {place}", held) for place, held in enumerate(value))
    elif isinstance(value, MethodType):
        yield from (("its object", value.__self__), (value.__func__.__name__, value.__func__))
    elif isinstance(value, partial):
        yield from (("its function", value.func), ("its arguments", value.args), ("its keywords", value.keywords))
    elif isinstance(value, nn.Module):
        yield from (*value.named_parameters(), *value.named_buffers())
    elif (code := getattr(value, "__code__", None)) is not None:
        for name, cell in zip(code.co_freevars, value.__closure__ or (), strict=True):
            yield from ((name, held) for _, held in _parts(cell))
        yield "its defaults", (value.__defaults__, value.__kwdefaults__ or {})
    else:
        yield from ((name, held) for name, held in getattr(value, "__dict__", {}).items())


def are_decided(logits: Tensor) -> Tensor:
    """Whether each row of logits [B, C] says what it predicts [B]: none is NaN or +inf, and some is finite. A class may
    be ruled out by -inf."""
    return ~(logits.isnan() | (logits == torch.inf)).any(1) & logits.isfinite().any(1)


def cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(logits, y, reduction="none")


def margin(logits: Tensor, y: Tensor) -> Tensor:
    """max_{j != y} z_j - z_y (Carlini & Wagner 2017), above 0 exactly where the prediction is wrong."""
    true = logits.gather(1, y[:, None]).squeeze(1)
    return logits.scatter(1, y[:, None], -torch.inf).amax(1) - true


def dlr(logits: Tensor, y: Tensor) -> Tensor:
    """The difference of logits ratio: the margin over z_1 - z_3, the first less the third in order (Croce & Hein 2020,
    eq. 6). It needs 3 classes."""
    first, _, third = logits.topk(3, dim=1).values.unbind(1)
    return margin(logits, y) / (first - third).clamp(min=1e-12)


def others(logits: Tensor, y: Tensor) -> Tensor:
    """The classes but y, [B, C - 1], from the highest logit down."""
    order = logits.argsort(dim=1, descending=True, stable=True)
    return order[order != y[:, None]].view(len(y), -1)


def targeted_margin(logits: Tensor, y: Tensor, target: Tensor) -> Tensor:
    """z_t - z_y to a class t [B] of each example, above 0 only where the prediction is wrong."""
    return (logits.gather(1, target[:, None]) - logits.gather(1, y[:, None])).squeeze(1)


def targeted_cross_entropy(logits: Tensor, y: Tensor, target: Tensor) -> Tensor:
    """-ce(z, t) of a class t [B] of each example: it rises as t becomes likelier."""
    return -cross_entropy(logits, target)


def kl_divergence(clean: Tensor, adversarial: Tensor) -> Tensor:
    """KL(softmax(clean) || softmax(adversarial)), both logits [B, C]."""
    return F.kl_div(F.log_softmax(adversarial, 1), F.log_softmax(clean, 1), reduction="none", log_target=True).sum(1)


def kl_from(logits: Tensor, y: Tensor, clean: Tensor) -> Tensor:
    """`kl_divergence` from the clean prediction of each example, logits [B, C]."""
    return kl_divergence(clean, logits)


def softmax_distance(first: Tensor, second: Tensor) -> Tensor:
    """The mean squared difference of the probabilities of two predictions, both logits [B, C]."""
    return (first.softmax(1) - second.softmax(1)).square().mean(1)


def smoothed(y: Tensor, classes: int, amount: float) -> Tensor:
    """Labels [B] as probabilities [B, C]: 1 - amount for the class itself, and the rest shared by the others alone
    (PyTorch's smoothing gives the class a share of the rest too)."""
    others = torch.full((len(y), classes), amount / (classes - 1), device=y.device)
    return others.scatter(1, y[:, None], 1 - amount)


def soft_cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """[B], for target probabilities [B, C]."""
    return -(target * F.log_softmax(logits, 1)).sum(1)
