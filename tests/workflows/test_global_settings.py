"""No public call changes a setting of the process that called it, whatever that setting is, or fails because of it."""

import os
import random
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
import torch
from accelerate import PartialState
from accelerate.state import AcceleratorState
from torch import Tensor, nn

import robench
from tests.helpers import Trained

PRECISIONS: dict[str, Any] = {
    "cuda.matmul": torch.backends.cuda.matmul,
    "cudnn": torch.backends.cudnn,
    "cudnn.conv": torch.backends.cudnn.conv,  # type: ignore[attr-defined]
    "cudnn.rnn": torch.backends.cudnn.rnn,
    "mkldnn": torch.backends.mkldnn,
    "mkldnn.conv": torch.backends.mkldnn.conv,  # type: ignore[attr-defined]
    "mkldnn.matmul": torch.backends.mkldnn.matmul,  # type: ignore[attr-defined]
}


def settings() -> dict[str, Any]:
    """What a program can set of its process, by name; not the warning filters, to which libraries add as they are
    imported, and matplotlib's backend, which it looks for when first asked."""
    random_state: Any = np.random.get_state()
    return {
        **{f"{name} precision": backend.fp32_precision for name, backend in PRECISIONS.items()},
        "cudnn enabled": torch.backends.cudnn.enabled,
        "cudnn benchmark": torch.backends.cudnn.benchmark,
        "cudnn deterministic": torch.backends.cudnn.deterministic,
        "mkldnn enabled": torch.backends.mkldnn.enabled,
        "deterministic algorithms": torch.are_deterministic_algorithms_enabled(),
        "warn only": torch.is_deterministic_algorithms_warn_only_enabled(),
        "dtype": torch.get_default_dtype(),
        "device": torch.get_default_device(),
        "threads": torch.get_num_threads(),
        "gradients": torch.is_grad_enabled(),
        "inference": torch.is_inference_mode_enabled(),
        "autocast": (torch.is_autocast_enabled("cpu"), torch.is_autocast_enabled("cuda")),
        "anomaly": torch.is_anomaly_enabled(),
        "torch's random numbers": torch.get_rng_state().tolist(),
        "NumPy's random numbers": (random_state[1].tolist(), *random_state[2:]),
        "Python's random numbers": random.getstate(),
        "NumPy's errors": np.geterr(),
        "NumPy's printing": np.get_printoptions(),
        "trace": sys.gettrace(),
        "signals": [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)],
        "environment": dict(os.environ),
        "folder": os.getcwd(),
        "path": list(sys.path),
        "recursion": sys.getrecursionlimit(),
        **{f"matplotlib's {name}": value for name, value in mpl.rcParams.items() if not name.startswith("backend")},
        "accelerate": (dict(AcceleratorState._shared_state), dict(PartialState._shared_state)),
    }


@contextmanager
def unusual() -> Iterator[None]:
    """Settings that a caller may well have, none of them torch's default."""
    before = torch.backends.cudnn.benchmark, torch.backends.cudnn.conv.fp32_precision  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = True
    torch.backends.cudnn.conv.fp32_precision = "ieee"  # type: ignore[attr-defined]
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    PartialState(cpu=True)
    try:
        with np.errstate(all="raise"), torch.inference_mode():
            yield
    finally:
        torch.set_num_threads(threads)
        torch.backends.cudnn.benchmark, torch.backends.cudnn.conv.fp32_precision = before  # type: ignore[attr-defined]
        AcceleratorState._reset_state(True)


class Watched(nn.Module):
    """Sees whether cuDNN is there for a network's passes."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Any:
        assert torch.backends.cudnn.enabled
        return self.network(x)


def trained(model: nn.Module) -> object:
    return robench.train("standard", epochs=1, limit=64, out="net.pt", settings={"holdout": 0}, device="cpu")


def evaluated(model: nn.Module) -> object:
    return robench.evaluate(
        model, n=4, attacks=["fgsm", "foolbox:LinfRepeatedAdditiveUniformNoiseAttack"], eps=0.1, device="cpu"
    )


def attacked(model: nn.Module) -> object:
    split = robench_digits()
    return robench.attack("pgd-20:steps=2")(model, split[0], split[1], eps=0.1)


def verified(model: nn.Module) -> object:
    x, _ = robench_digits()
    np.savez("found.npz", x_adv=x.numpy(), ids=np.arange(len(x)))
    return robench.verify(model, "found.npz", eps=0.1, device="cpu")


def read(model: nn.Module) -> object:
    robench.evaluate(model, n=4, attacks=["fgsm"], eps=0.1, device="cpu")
    robench.leaderboard()
    robench.table("adt-table2")
    return robench.figure("adt-fig4")


def robench_digits() -> tuple[Tensor, Tensor]:
    from robench.data import datasets

    split = datasets.load("digits", "test")
    return split.floats(slice(4)), split.labels[:4]


@pytest.mark.parametrize("call", [trained, evaluated, attacked, verified, read], ids=lambda call: call.__name__)
def test_a_public_call_leaves_every_setting_as_it_was(
    call: Callable[[nn.Module], object], digits_model: Trained, in_tmp: Path
) -> None:
    with unusual():
        before = settings()
        call(Watched(digits_model.model))
        after = settings()
    assert not {name: (before[name], after[name]) for name in before if before[name] != after[name]}


def test_cudnn_is_there_in_training(monkeypatch: pytest.MonkeyPatch, in_tmp: Path) -> None:
    from robench.models.digit_cnn import DigitCNN

    seen = set()
    forward = DigitCNN.forward

    def watching(self: DigitCNN, x: Tensor) -> Tensor:
        cudnn = torch.backends.cudnn
        seen.add((cudnn.enabled, cudnn.benchmark, cudnn.deterministic))
        return forward(self, x)

    monkeypatch.setattr(DigitCNN, "forward", watching)
    trained(nn.Identity())
    assert seen == {(True, False, True)}
