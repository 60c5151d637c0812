"""Copies of models, whatever they hold."""

import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from robench.utils.errors import UserError


def copied(model: nn.Module) -> nn.Module:
    """A copy of a model that shares nothing with it.

    `copy.deepcopy` refuses tensors with a history, such as an activation that a module keeps or the weight that
    `torch.nn.utils.weight_norm` makes anew at each pass: the copy has their values alone. Raises UserError for what
    cannot be copied at all.
    """
    memo: dict[int, Any] = {}
    with torch.inference_mode(False), torch.no_grad():
        for tensor in _with_history(model):
            memo[id(tensor)] = tensor.detach().clone()
        try:
            return copy.deepcopy(model, memo)
        except Exception as error:  # whatever the user's objects do when they are copied
            reason = (str(error).splitlines() or [""])[0]
            raise UserError(
                f"model {type(model).__name__} cannot be copied ({type(error).__name__}: {reason}); the engine attacks "
                "and judges copies, so give its parts a __deepcopy__, or a factory that makes it without such parts"
            ) from None


def frozen(model: nn.Module) -> nn.Module:
    """The model, whose parameters ask for no gradient; one of TorchScript has no method for that."""
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    return model


def _with_history(model: nn.Module) -> Iterator[Tensor]:
    """The tensors that autograd has made, among what the modules hold."""
    waiting: list[Any] = [vars(module) for module in model.modules()]
    seen: set[int] = set()
    while waiting:
        held = waiting.pop()
        if id(held) in seen:
            continue
        seen.add(id(held))
        if isinstance(held, Tensor):
            if held.grad_fn is not None:
                yield held
        elif isinstance(held, dict):
            waiting += held.values()
        elif isinstance(held, list | tuple | set):
            waiting += held
        elif not isinstance(held, nn.Module) and hasattr(held, "__dict__") and not callable(held):
            waiting.append(vars(held))
