"""The model as the attack of another library may call it."""

import torch
from torch import Tensor, nn

from robench.search.classifier import Classifier


class LibraryModel(nn.Module):
    """Logits of the classifier, every image counted forwards and backwards; without gradients if so declared."""

    def __init__(self, classifier: Classifier, *, differentiable: bool, expected: bool = True) -> None:
        super().__init__()
        self._classifier = [classifier]  # in a list, so that it is no submodule
        self._differentiable = differentiable
        self._logits = classifier.logits if expected else classifier.logits_once

    def forward(self, x: Tensor) -> Tensor:
        if not self._differentiable:
            with torch.no_grad():
                return self._logits(x)
        before = self._classifier[0].forwards
        logits = self._logits(x)
        passes = self._classifier[0].forwards - before
        if logits.requires_grad:
            logits.register_hook(lambda _: self._count(passes))  # type: ignore[no-untyped-call]
        return logits

    def _count(self, passes: int) -> None:
        self._classifier[0].backwards += passes
