"""Random numbers of an attack: a function of (seed, example, restart, purpose, step) and of nothing else.

So an outcome does not depend on the batch an example sits in, on the device, on the number of workers, or on which
others are already broken. The generator is NumPy's counter-based Philox, keyed by the seed and the example.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from zlib import crc32

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Draws:
    """The streams of a batch of examples, `examples` [B] being their rows in the data set."""

    seed: int
    examples: np.ndarray
    device: torch.device
    restart: int = 0

    def take(self, rows: Tensor) -> "Draws":
        """The streams of these rows [n] of the batch."""
        return replace(self, examples=self.examples[rows.cpu().numpy()])

    def uniform(self, purpose: str, shape: Sequence[int], step: int = 0) -> Tensor:
        """float32 in [0, 1), [B, *shape]."""
        return self._stack(purpose, step, lambda stream: stream.random(shape, dtype=np.float32), shape)

    def normal(self, purpose: str, shape: Sequence[int], step: int = 0) -> Tensor:
        """float32 standard normal, [B, *shape]."""
        return self._stack(purpose, step, lambda stream: stream.standard_normal(shape, dtype=np.float32), shape)

    def signs(self, purpose: str, shape: Sequence[int], step: int = 0) -> Tensor:
        """float32, -1 or 1 with equal chance, [B, *shape]."""
        count = int(np.prod(shape))

        def draw(stream: np.random.Generator) -> np.ndarray:
            bits = np.unpackbits(np.frombuffer(stream.bytes(-(-count // 8)), dtype=np.uint8), count=count)
            return bits.reshape(shape)

        return 2 * self._stack(purpose, step, draw, shape) - 1

    def below(self, purpose: str, bound: Tensor, step: int = 0) -> Tensor:
        """int64 in [0, bound), [B], for a `bound` [B] below 2^24."""
        share = self._stack(purpose, step, lambda stream: np.asarray(stream.random(dtype=np.float32)), ())
        return torch.minimum((share.double() * bound).long(), bound - 1)

    def _stack(
        self, purpose: str, step: int, draw: Callable[[np.random.Generator], np.ndarray], shape: Sequence[int]
    ) -> Tensor:
        out = np.empty((len(self.examples), *shape), dtype=np.float32)
        for row, example in enumerate(self.examples):
            counter = np.array([0, self.restart, step, crc32(purpose.encode())], dtype=np.uint64)
            key = np.array([self.seed, example], dtype=np.uint64)
            out[row] = draw(np.random.Generator(np.random.Philox(counter=counter, key=key)))
        return torch.from_numpy(out).to(self.device)
