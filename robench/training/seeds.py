"""The seeds of a training: an independent one for all that it draws."""

import torch

from robench.utils.fingerprints import fingerprint


def seed_of(seed: int, purpose: str, index: int) -> int:
    """An independent seed for each purpose and index."""
    return int(fingerprint({"seed": seed, "purpose": purpose, "index": index}), 16) >> 1


def seed_layers(device: torch.device, seed: int) -> None:
    """For dropout and other layers that draw. (`torch.manual_seed` also asks every kind of device, for 0.4 ms.)"""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)
