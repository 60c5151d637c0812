"""The device that a run works on."""

from robench.utils.errors import UserError


def check_device(device: str | None) -> None:
    """Refuses what is no device; whether it is there is not asked."""
    if device not in (None, "cpu", "cuda"):
        raise UserError(f"expected the device cpu or cuda (CUDA_VISIBLE_DEVICES chooses among several), got {device!r}")


def resolve_device(device: str | None) -> str:
    """The device asked for; by default CUDA where there is one."""
    import torch  # the word alone is checked without it

    check_device(device)
    if device is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("the device cuda is not available here; cpu is")
    return device
