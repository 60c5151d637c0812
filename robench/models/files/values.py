"""Whether the values of tensors can be a network's weights, and those weights in its kind of floats."""

from collections.abc import Mapping

import torch
from torch import Tensor

from robench.utils.errors import UserError

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
"""What weights are saved in."""

EXPANDED = 2**20
"""Numbers that a tensor may have without memory for each."""

Kinds = Mapping[str, torch.dtype]
"""What the network's weights are made of, by their names."""


def check_values(state: Mapping[str, Tensor], kinds: Kinds, where: str) -> None:
    """Refuses tensors that `where` holds whose values cannot be taken as they are, or are not finite."""
    for name, tensor in state.items():
        if problem := _problem(tensor, kinds[name]):
            raise UserError(f"{name} of the weights in {where} is {problem}")
    broken = [name for name, tensor in state.items() if not tensor.isfinite().all()]
    if broken:
        raise UserError(f"the weights in {where} are not finite: {', '.join(broken[:3])}")


def cast(state: Mapping[str, Tensor], kinds: Kinds) -> tuple[dict[str, Tensor], list[str]]:
    """The weights as the network's kind of floats, and the other kinds that they were saved in."""
    others = {_word(tensor.dtype) for name, tensor in state.items() if tensor.dtype != kinds[name]}
    return {name: tensor.to(kinds[name]) for name, tensor in state.items()}, sorted(others)


def _problem(tensor: Tensor, kind: torch.dtype) -> str | None:
    """What is wrong with a tensor in place of one of that kind, with the remedy."""
    if tensor.is_meta:
        return "without values, on the meta device; save the state dict of the network once it has them"
    if tensor.is_quantized:
        return "quantised; save the float weights, or give a factory FILE.py:FUNCTION of the quantised model"
    if tensor.layout != torch.strided:
        return f"sparse ({_word(tensor.layout)}); save it with to_dense()"
    if tensor.is_complex():
        return f"of complex numbers ({_word(tensor.dtype)}), which no network here has"
    if tensor.dtype not in FLOATS and kind.is_floating_point:
        return f"of {_word(tensor.dtype)} in place of floats, as where it is quantised; save the float weights"
    if tensor.numel() > EXPANDED and tensor.untyped_storage().nbytes() < tensor.numel() * tensor.element_size():
        return f"said to hold {tensor.numel()} numbers, more than there are in the file"
    return None


def _word(kind: torch.dtype | torch.layout) -> str:
    return str(kind).removeprefix("torch.")
