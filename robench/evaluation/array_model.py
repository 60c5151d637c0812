"""A callable on arrays as a model: it shows scores or labels, never a gradient."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from robench.utils.errors import UserError

ArrayFunction = Callable[[np.ndarray], Any]
"""Images [B, C, H, W], float32 in [0, 1] -> scores [B, classes] (logits or probabilities), or labels [B]."""


class ArrayModel(nn.Module):
    """The function behind the interface of a module. Labels become scores of 1 and 0 over `classes`."""

    def __init__(self, function: ArrayFunction, classes: int) -> None:
        super().__init__()
        self.function, self.classes = function, classes

    def __deepcopy__(self, memo: Any) -> "ArrayModel":
        return self  # it has no weights to guard, and may hold a connection

    def forward(self, x: Tensor) -> Tensor:
        given = np.asarray(self.function(x.detach().cpu().numpy()))
        if given.ndim == 2 and np.issubdtype(given.dtype, np.number):
            return torch.from_numpy(given.astype(np.float32)).to(x.device)
        if given.shape != (len(x),) or not np.issubdtype(given.dtype, np.integer):
            raise UserError(
                f"expected scores ({len(x)}, classes) or integer labels ({len(x)},) from the function, "
                f"got {given.dtype} of shape {given.shape}"
            )
        if given.min() < 0 or given.max() >= self.classes:
            raise UserError(f"expected labels from 0 to {self.classes - 1}, got {given.min()} to {given.max()}")
        labels = torch.from_numpy(given.astype(np.int64)).to(x.device)
        return nn.functional.one_hot(labels, self.classes).float()

    def gives_labels(self, image: np.ndarray) -> bool:
        """Whether it shows labels alone, seen on one image [1, C, H, W]."""
        return np.asarray(self.function(image)).ndim == 1

    @property
    def name(self) -> str:
        return str(getattr(self.function, "__name__", type(self.function).__name__))
