"""Random numbers of a training step, alike whether one process has the batch or several share it."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from robench.training.distributed import Share
from robench.utils.errors import UserError


class BatchGenerator(torch.Generator):
    """A stream for a whole batch, the same in every process of a training.

    `uniform`, `normal` and `integers` draw from it for the batch, and give a process the rows of its `share`. What
    torch draws from it directly is the same in all of them, as a number common to the batch should be.
    """

    share: Share

    def __new__(cls, device: torch.device, seed: int, share: Share) -> "BatchGenerator":
        generator = super().__new__(cls, device)  # type: ignore[call-arg]
        generator.manual_seed(seed)
        generator.share = share
        return generator

    def __init__(self, device: torch.device, seed: int, share: Share) -> None:
        super().__init__()


def uniform(shape: Sequence[int], generator: torch.Generator) -> Tensor:
    """float32 in [0, 1) on the generator's device. `shape` begins with the examples; [n * B, ...] is n copies of a
    batch, one after the other."""
    return _share(lambda whole: torch.rand(whole, generator=generator, device=generator.device), shape, generator)


def normal(shape: Sequence[int], generator: torch.Generator) -> Tensor:
    """float32 standard normal, as `uniform`."""
    return _share(lambda whole: torch.randn(whole, generator=generator, device=generator.device), shape, generator)


def integers(low: int, high: int, shape: Sequence[int], generator: torch.Generator) -> Tensor:
    """int64 in [low, high), as `uniform`."""

    def draw(whole: Sequence[int]) -> Tensor:
        return torch.randint(low, high, whole, generator=generator, device=generator.device)

    return _share(draw, shape, generator)


def _share(draw: Callable[[Sequence[int]], Tensor], shape: Sequence[int], generator: torch.Generator) -> Tensor:
    if not isinstance(generator, BatchGenerator) or len(generator.share) == generator.share.size:
        return draw(shape)
    share = generator.share
    copies, rest = divmod(shape[0], len(share))
    if rest:
        raise UserError(f"expected to draw for a share of {len(share)} examples or for copies of it, got {shape[0]}")
    whole = draw((copies * share.size, *shape[1:]))
    return torch.unflatten(whole, 0, (copies, share.size))[:, share.rows].flatten(0, 1)
