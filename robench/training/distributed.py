"""What one process of several does in a training: its rows of every batch, and what all of them agree on.

A launcher such as `torchrun` starts the processes; without one there is one. A batch is the recipe's, whatever
their number: each process takes a share of its rows, and gradients, metrics and batch norm's running statistics are
averaged over the whole of it before any weight moves. The weights are then those of one process, but for rounding,
except where

- batch norm normalises by the statistics of its batch: those are each share's own, as is usual in the field;
- a layer draws (dropout): each process draws masks of its own;
- the defense looks across the batch (`Defense.couples`): it sees the share.

All processes must see one folder of results; the first of them alone writes there.
"""

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from robench.utils.errors import UserError

if TYPE_CHECKING:  # it takes a third of a second, and evaluations do without it
    from accelerate import Accelerator

TIMEOUT = timedelta(minutes=10)
"""How long a process waits for the others: longer than anything that the first does alone."""


class DistributedWarning(UserWarning):
    """A training in several processes is not quite the one in one."""


@dataclass(frozen=True)
class Processes:
    """This process's place among those of a training."""

    index: int = 0
    count: int = 1

    @classmethod
    def of(cls, accelerator: "Accelerator") -> "Processes":
        return cls(accelerator.process_index, accelerator.num_processes)

    @property
    def main(self) -> bool:
        return self.index == 0

    def share(self, size: int) -> "Share":
        return Share(size, self)

    def gather(self, value: Any) -> list[Any]:
        """What each process has, in their order; no process goes on before all have come here."""
        if self.count == 1:
            return [value]
        found: list[Any] = [None] * self.count
        _together(dist.all_gather_object, found, value)
        return found

    def agree(self, what: str, value: object) -> None:
        """Refuses to go on where the processes differ."""
        found = self.gather(value)
        for index, other in enumerate(found):
            if other != found[0]:
                raise UserError(
                    f"expected the same {what} in every process of a training, got {found[0]} in process 0 and {other} "
                    f"in process {index}; start them alike, over one folder of results"
                )


@dataclass(frozen=True)
class Share:
    """The rows of a batch of `size` examples that are this process's; no process has over one more than another. Of
    one process it may be a `part` of `parts` that the process takes in turn."""

    size: int
    processes: Processes
    part: int = 0
    parts: int = 1

    @property
    def rows(self) -> slice:
        index, count = self.processes.index + self.part, self.processes.count * self.parts
        return slice(self.size * index // count, self.size * (index + 1) // count)

    @property
    def weight(self) -> float:
        """Of the part among all that the process has of the batch."""
        return len(self) / self.size if self.parts > 1 else 1.0

    def divided(self, parts: int) -> "list[Share]":
        """The parts that the only process takes in turn."""
        return [replace(self, part=part, parts=parts) for part in range(parts)]

    def __len__(self) -> int:
        return self.rows.stop - self.rows.start  # type: ignore[no-any-return]

    def average(self, means: Sequence[Tensor]) -> None:
        """Turns means over each process's share, in place, into means over the batch; one exchange for all of them."""
        if self.processes.count == 1 or not means:
            return
        flat = torch.cat([mean.flatten() for mean in means]) * (len(self) / self.size)
        _together(dist.all_reduce, flat)
        for mean, whole in zip(means, torch.split(flat, [mean.numel() for mean in means]), strict=True):
            mean.copy_(whole.view_as(mean))


WHOLE = Share(1, Processes())
"""All rows of any batch."""


def _together(exchange: Callable[..., object], *arguments: object) -> None:
    try:
        exchange(*arguments)
    except RuntimeError as error:  # of the backend; what it says names sockets
        raise UserError(
            "another process of this training has ended, or did not answer within "
            f"{TIMEOUT.seconds // 60} minutes; what it said tells why"
        ) from error


def is_main() -> bool:
    """Whether this process is the first or the only one, as its launcher says before a training starts."""
    return int(os.environ.get("RANK", "0")) == 0


def leave() -> None:
    """Ends this process's part in the group, as its backend wants it before the process ends: when all have come to
    their end, since one that takes its leave early has been seen to abort."""
    if dist.is_available() and dist.is_initialized():
        _together(dist.barrier)
        dist.destroy_process_group()


def running_statistics(networks: Iterable[nn.Module]) -> list[Tensor]:
    """Of all batch norm layers."""
    layers = [layer for network in networks for layer in network.modules() if isinstance(layer, _BATCH_NORM)]
    buffers = [buffer for layer in layers for buffer in (layer.running_mean, layer.running_var)]
    return [buffer for buffer in buffers if buffer is not None]


def differences(networks: Iterable[nn.Module], couples: bool) -> list[str]:
    """Why the weights of several processes are not those of one, beyond rounding."""
    layers = [layer for network in networks for layer in network.modules()]
    found = {
        "batch norm normalises each share by itself": any(isinstance(layer, _BATCH_NORM) for layer in layers),
        "dropout draws other masks": any(isinstance(layer, _DROPOUT) and layer.p > 0 for layer in layers),
        "the defense looks across its share, not across the batch": couples,
    }
    return [why for why, holds in found.items() if holds]


_BATCH_NORM = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_DROPOUT = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)
