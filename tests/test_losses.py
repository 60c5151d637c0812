"""Losses against their definitions."""

import pytest
import torch
import torch.nn.functional as F

from robench.losses import dlr, others, smoothed, soft_cross_entropy, targeted_margin


def test_the_losses_of_a_known_row_of_logits() -> None:
    logits, y = torch.tensor([[1.0, 5.0, 3.0, -1.0]]), torch.tensor([1])
    assert dlr(logits, y).item() == pytest.approx(-(5 - 3) / (5 - 1))
    assert others(logits, y).tolist() == [[2, 0, 3]]
    assert targeted_margin(logits, y, torch.tensor([3])).item() == -6


def test_smoothing_gives_the_class_itself_no_share_of_the_rest() -> None:
    target = smoothed(torch.tensor([2, 0]), 5, 0.4)
    assert target.tolist()[0] == pytest.approx([0.1, 0.1, 0.6, 0.1, 0.1])
    logits = torch.randn(2, 5)
    plain = F.cross_entropy(logits, torch.tensor([2, 0]), reduction="none")
    torch.testing.assert_close(soft_cross_entropy(logits, smoothed(torch.tensor([2, 0]), 5, 0.0)), plain)
