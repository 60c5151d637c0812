"""A checkpoint for evaluations by the command line and by other processes."""

from pathlib import Path

import pytest

from robench.models import checkpoint
from robench.models.checkpoint import Card
from tests.helpers import Trained


@pytest.fixture
def model(in_tmp: Path, digits_model: Trained) -> Path:
    """A checkpoint of the digits model in an empty working directory."""
    card = Card("digit_cnn", [1, 8, 8], 10, [0.0], [1.0], "digits", "linf", "0.08", "standard", {}, 0)
    checkpoint.save(in_tmp / "digits.pt", digits_model.model, card)
    return in_tmp / "digits.pt"
