"""Encoded images that stay on disk until they are asked for."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from robench.data import pictures
from robench.data.preparation import Preparation
from robench.utils.errors import UserError

CHUNK = 256
"""Images that are decoded at once for a fingerprint."""


class Store(Protocol):
    """Where encoded images lie, by their rows."""

    def __len__(self) -> int: ...
    def read(self, ids: np.ndarray) -> Iterator[tuple[int, Any]]:
        """The places in ids [B] with the bytes of their images, in whatever order is fast."""

    def called(self, row: int) -> str:
        """What messages call it."""

    def digest(self, *, prepared: bool) -> bytes | None:
        """Of the encoded images in their order, none of which is decoded; None: of this store the pixels tell."""


@dataclass(frozen=True)
class StoredImages:
    """The images [N, C, H, W], uint8, of a store: grey where all are, and in colours elsewhere.

    Indexed by rows, as a tensor is, it decodes these alone.
    """

    store: Store
    where: str
    """the data set, for messages"""
    preparation: Preparation = field(default_factory=Preparation)
    device: torch.device | str = "cpu"

    dtype = torch.uint8

    def __len__(self) -> int:
        return len(self.store)

    @cached_property
    def channels(self) -> int:
        """3 as soon as one image is in colours."""
        every_row = np.arange(len(self))
        return 3 if any(pictures.in_colours(encoded) for _, encoded in self.store.read(every_row)) else 1

    @cached_property
    def shape(self) -> torch.Size:
        if not len(self):
            return torch.Size((0, 1, 1, 1))
        _, encoded = next(self.store.read(np.zeros(1, dtype=np.int64)))
        return torch.Size((len(self), *self._decoded(0, encoded).shape))

    def dim(self) -> int:
        return len(self.shape)

    def numel(self) -> int:
        return self.shape.numel()

    def to(self, device: torch.device) -> "StoredImages":
        """The same, given on the device."""
        return self._known(replace(self, device=device))

    def prepared(self, preparation: Preparation) -> "StoredImages":
        return replace(self, preparation=preparation)

    def __getitem__(self, rows: Any) -> Tensor:
        """Images [B, C, H, W] of a slice or of row numbers [B]."""
        ids = np.arange(*rows.indices(len(self))) if isinstance(rows, slice) else np.asarray(rows, dtype=np.int64)
        images = np.empty((len(ids), *self.shape[1:]), dtype=np.uint8)
        for place, encoded in self.store.read(ids):
            images[place] = self._fitting(int(ids[place]), encoded)
        return torch.from_numpy(images).to(self.device)

    def contents(self) -> Iterator[Any]:
        """What tells these images from others, in pieces: their pixels where the store has no digest of its own."""
        digest = self.store.digest(prepared=bool(self.preparation))
        if digest is None:
            for start in range(0, len(self), CHUNK):
                yield np.ascontiguousarray(self[start : start + CHUNK].cpu().numpy()).data
            return
        yield digest
        yield str(self.preparation.options).encode() if self.preparation else b""

    def _called(self, row: int) -> str:
        return f"{self.where}, {self.store.called(row)}"

    @cached_property
    def _transform(self) -> Any:
        return self.preparation.transform if self.preparation else None

    def _decoded(self, row: int, encoded: Any) -> np.ndarray:
        return pictures.decode(encoded, self._called(row), channels=self.channels, transform=self._transform)

    def _fitting(self, row: int, encoded: Any) -> np.ndarray:
        image = self._decoded(row, encoded)
        if image.shape != self.shape[1:]:
            first = f"{tuple(self.shape[1:])} in {self.store.called(0)}"
            raise UserError(
                f"{self.where}: expected images of one size, got {first} and {image.shape} in "
                f"{self.store.called(row)}; "
                "bring them to that of the model, with --resize 256 --crop 224 for example"
            )
        return image

    def _known(self, other: "StoredImages") -> "StoredImages":
        """The other with what has been found of this one."""
        vars(other).update({name: vars(self)[name] for name in ("channels", "shape") if name in vars(self)})
        return other
