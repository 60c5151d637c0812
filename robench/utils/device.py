"""The device that a run works on."""

import torch

from robench.utils.errors import UserError


def resolve_device(device: str | None) -> str:
    """The device asked for; by default CUDA where there is one."""
    if device is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device not in ("cpu", "cuda"):
        raise UserError(f"expected the device cpu or cuda (CUDA_VISIBLE_DEVICES chooses among several), got {device!r}")
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("the device cuda is not available here; cpu is")
    return device
