"""What a model may give, and how its passes are cut."""

import pytest
import torch
from torch import Tensor, nn

from robench.search.classifier import Classifier
from robench.utils.errors import UserError


@pytest.mark.parametrize("shape", [(4,), (4, 1), (4, 2, 2)])
def test_what_are_not_logits_is_said(shape: tuple[int, ...]) -> None:
    class Odd(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.zeros(shape)

    with pytest.raises(UserError, match="expected logits"):
        Classifier(Odd()).logits(torch.rand(4, 1, 2, 2))
