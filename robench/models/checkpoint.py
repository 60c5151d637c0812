"""robench's own file of a trained model: weights and a description, read without running any code in it."""

import hashlib
import pickle
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from robench.utils.errors import UserError
from robench.utils.files import replacing

FORMAT = "robench-checkpoint-1"


@dataclass(frozen=True)
class Card:
    """What a checkpoint says of itself. dataset: what it is evaluated on unless told otherwise; labelled: the rows of
    the training images that kept their label, where not all did."""

    arch: str
    shape: list[int]
    classes: int
    mean: list[float]
    std: list[float]
    dataset: str
    norm: str
    eps: str
    defense: str
    recipe: dict[str, Any]
    seed: int
    metrics: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    processes: int = 1
    """how many trained it, see `robench/training/distributed.py`"""
    labelled: list[int] = field(default_factory=list)
    inputs: dict[str, Any] = field(default_factory=dict)
    """what else made it: the fingerprints of its images and of the code"""


def save(path: Path, model: nn.Module, card: Card, helpers: Mapping[str, Mapping[str, Tensor]] | None = None) -> None:
    """Writes the file whole or not at all. `helpers`: the weights of the networks trained beside the model, by name."""
    document = {"format": FORMAT, "card": asdict(card), "weights": cpu_weights(model), "helpers": dict(helpers or {})}
    save_document(path, document)


def cpu_weights(network: nn.Module) -> dict[str, Tensor]:
    """A copy of a network's weights as they are now."""
    return {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in network.state_dict().items()
    }


def save_document(path: Path, document: dict[str, Any]) -> None:
    """`torch.save`, whole or not at all."""
    with replacing(path) as temporary:
        torch.save(document, temporary)


def read(path: Path) -> Any:
    """What a .pt or .safetensors file holds, on the CPU. Pickled code is refused, never run."""
    if not path.is_file():
        raise UserError(f"there is no checkpoint {path}")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "weights_only" in str(error).lower():
            raise UserError(
                f"{path} holds Python objects whose loading would run code; save its state_dict() alone, or give a "
                "factory PATH.py:FUNCTION that you trust"
            ) from None
        raise UserError(f"{path} is not a whole checkpoint: {_first_line(error)}") from None
    except Exception as error:  # torch and safetensors raise many kinds for a damaged file
        raise UserError(f"{path} is not a whole checkpoint ({_first_line(error)}); was its download cut?") from None


def card_of(document: Any) -> Card | None:
    """The card of one of our own checkpoints; None for anything else."""
    if not isinstance(document, Mapping) or document.get("format") != FORMAT:
        return None
    try:
        return Card(**document["card"])
    except (KeyError, TypeError) as error:
        raise UserError(f"the checkpoint's description cannot be read by this version of robench: {error}") from None


def helpers_of(document: Any) -> dict[str, dict[str, Tensor]]:
    """The weights of the networks that one of our own models was trained beside; empty where it was trained alone."""
    helpers: dict[str, dict[str, Tensor]] = document.get("helpers", {})
    return helpers


def state_dict_of(document: Any, where: str) -> dict[str, Tensor]:
    """The state dict inside a public checkpoint, whatever it is wrapped in."""
    state = document
    for wrapper in ("weights", "net", "state_dict", "model"):
        if isinstance(state, Mapping) and isinstance(state.get(wrapper), Mapping):
            state = state[wrapper]
    tensors = (
        {str(key): value for key, value in state.items() if isinstance(value, Tensor)}
        if (isinstance(state, Mapping))
        else {}
    )
    if not tensors:
        raise UserError(f"expected a state dict of tensors in {where}, found none")
    for prefix in ("module.", "basic_net.", "module."):
        if all(name.startswith(prefix) for name in tensors):
            tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
    return tensors


def weights_fingerprint(tensors: Mapping[str, Tensor]) -> str:
    """16 hexadecimal digits that name these tensors to the bit."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def load_weights(model: nn.Module, state: Mapping[str, Tensor], where: str) -> list[str]:
    """Puts weights into the model; all must fit and be finite. Gives the names of unused ones that may be dropped."""
    expected = model.state_dict()
    dropped = [name for name in state if name not in expected and name.startswith("sub_block1.")]
    unexpected = [name for name in state if name not in expected and name not in dropped]
    missing = [name for name in expected if name not in state and not name.endswith("num_batches_tracked")]
    misshapen = [name for name in expected if name in state and state[name].shape != expected[name].shape]
    for names, problem in ((missing, "lacks"), (unexpected, "has, beyond the architecture,"), (misshapen, "misshapes")):
        if names:
            raise UserError(
                f"the weights in {where} are of another architecture than {type(model).__name__}: it {problem} "
                f"{', '.join(names[:3])}{' and others' if len(names) > 3 else ''}; name the right one with --arch"
            )
    broken = [name for name, tensor in state.items() if not tensor.isfinite().all()]
    if broken:
        raise UserError(f"the weights in {where} are not finite: {', '.join(broken[:3])}")
    model.load_state_dict({name: state.get(name, tensor) for name, tensor in expected.items()})
    return dropped


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
