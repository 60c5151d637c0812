"""What people save of a model, or have: each is made on the fly, and works with the right logits or is told what to do.

`docs/habits_models.md` is the table of it; `python -m tests.workflows.test_habits_of_models` writes it anew.
"""

import argparse
import collections
import datetime
import pickle
import re
import sys
import tarfile
import tempfile
import warnings
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from robench.evaluation.target import load_model
from robench.models import build, checkpoint
from robench.models.checkpoint import Card
from robench.training.loop import train
from robench.training.plan import plan_training
from robench.utils.errors import Notice, UserError
from tests import ROOT

PAGE = ROOT / "docs" / "habits_models.md"
SHAPE, CLASSES = (3, 8, 8), 10
MEAN, STD = (0.49, 0.48, 0.45), (0.25, 0.24, 0.26)
X = torch.rand(4, *SHAPE, generator=torch.Generator().manual_seed(0))

State = dict[str, Tensor]


def network(seed: int = 0, classes: int = CLASSES, **normalisation: Any) -> nn.Module:
    torch.manual_seed(seed)
    return build("digit_cnn", SHAPE, classes, **normalisation).eval()


NET, OTHER = network(), network(1)
S: State = NET.state_dict()
AVERAGE: State = OTHER.state_dict()
NORMALISED = network(mean=MEAN, std=STD)


def prefixed(prefix: str, state: State = S) -> State:
    return {f"{prefix}{name}": tensor for name, tensor in state.items()}


def renamed(old: str, new: str) -> State:
    return {name.replace(old, new): tensor for name, tensor in S.items()}


def cast(dtype: torch.dtype) -> State:
    return {name: tensor.to(dtype) for name, tensor in S.items()}


def under(state: State, first: str) -> State:
    return {name.removeprefix(f"{first}."): tensor for name, tensor in state.items() if name.startswith(f"{first}.")}


def with_values(state: State) -> nn.Module:
    changed = network()
    changed.load_state_dict({name: tensor.float() for name, tensor in state.items()})
    return changed


def column(values: tuple[float, ...]) -> Tensor:
    return torch.tensor(values).view(1, 3, 1, 1)


def adam() -> dict[str, Any]:
    """What Adam's state dict holds."""
    moments = [{"step": torch.tensor(1.0), "exp_avg": each, "exp_avg_sq": each} for each in S.values()]
    return {"state": dict(enumerate(moments)), "param_groups": [{"lr": 1e-3, "params": [*range(len(S))]}]}


def in_torch(document: Any, name: str = "FILE.pt", **options: Any) -> Callable[[Path], str]:
    """Writes with `torch.save`."""

    def made(folder: Path) -> str:
        torch.save(document() if callable(document) else document, folder / name, **options)
        return str(folder / name)

    return made


def of_bytes(content: bytes, name: str) -> Callable[[Path], str]:
    def made(folder: Path) -> str:
        (folder / name).write_bytes(content)
        return str(folder / name)

    return made


def in_archive(name: str, *members: str) -> Callable[[Path], str]:
    def made(folder: Path) -> str:
        with zipfile.ZipFile(folder / name, "w") as archive:
            for member in members:
                archive.writestr(member, "{}")
        return str(folder / name)

    return made


def of_code(given: str, files: dict[str, str]) -> Callable[[Path], str]:
    """Writes Python files, and gives what is evaluated."""

    def made(folder: Path) -> str:
        for name, text in files.items():
            path = folder / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
        return str(folder / given)

    return made


def safetensors(folder: Path, name: str = "FILE.safetensors", state: State = S) -> str:
    save_file(state, folder / name)
    return str(folder / name)


def arrays(folder: Path) -> str:
    named: dict[str, Any] = {name: tensor.numpy() for name, tensor in S.items()}
    np.savez(folder / "FILE.npz", **named)
    return str(folder / "FILE.npz")


def script(folder: Path) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.trace(NET, X).save(str(folder / "FILE.pt"))  # type: ignore[no-untyped-call]
    return str(folder / "FILE.pt")


def cut(folder: Path) -> str:
    path = Path(in_torch(S)(folder))
    path.write_bytes(path.read_bytes()[:5000])
    return str(path)


def in_tar(folder: Path) -> str:
    inner = in_torch(S)(folder)
    with tarfile.open(folder / "FILE.tar", "w") as archive:
        archive.add(inner, "FILE.pt")
    return str(folder / "FILE.tar")


def in_folder(folder: Path) -> str:
    in_torch(S, "pytorch_model.bin")(folder)
    return str(folder)


def ours(folder: Path, **changes: Any) -> str:
    card = Card("digit_cnn", list(SHAPE), CLASSES, [*MEAN], [*STD], "x", "linf", "0.1", "standard", {}, 0)
    checkpoint.save(folder / "FILE.pt", NORMALISED, card)
    document = torch.load(folder / "FILE.pt", weights_only=True)
    document["card"] |= changes
    torch.save(document, folder / "FILE.pt")
    return str(folder / "FILE.pt")


def sparse() -> State:
    return {**S, "classifier.weight": S["classifier.weight"].to_sparse()}


def quantised() -> State:
    weight = torch.quantize_per_tensor(S["classifier.weight"], 0.1, 0, torch.qint8)
    return {**S, "classifier.weight": weight}


def expanded(classes: int) -> State:
    """A head of one number, said to be many."""
    zero = torch.zeros(1)
    return {"classifier.weight": zero.expand(classes, 128), "classifier.bias": zero.expand(classes)}


def of_class(name: str) -> Any:
    """A document with an object of a class that only its author has, beside the weights."""
    where, _, kind = name.rpartition(".")
    module = ModuleType(where)
    made = type(kind, (), {"__module__": where})
    setattr(module, kind, made)
    sys.modules[where] = module
    return {"state_dict": S, "config": made()}


TINY = """
from torch import nn

class Tiny(nn.Module):
    def __init__(self, in_channels=3, num_classes=10):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, 4, 3, padding=1)
        self.bn = nn.BatchNorm2d(4)
        self.fc = nn.Linear(4, num_classes)

    def forward(self, x):
        return self.fc(self.bn(self.conv(x)).relu().mean((2, 3)))

def tiny(num_classes):
    return Tiny(num_classes=num_classes)
"""
_tiny: dict[str, Any] = {}
exec(TINY, _tiny)


def tiny(seed: int = 0, classes: int = CLASSES) -> nn.Module:
    torch.manual_seed(seed)
    made: nn.Module = _tiny["tiny"](classes)
    made.bn.running_mean.normal_()  # type: ignore[union-attr, operator]
    return made.eval()


FACTORY = "import torch\nfrom net import Tiny\ndef make():\n    torch.manual_seed(0)\n    return Tiny()\n"
BY_FACTORY = {"FILE.py": FACTORY, "net.py": TINY}
LATE = "def make():\n    import inner\n    return inner.make()\n"
ASKING = ("make():", "make(num_classes, in_channels=None):")
LOADING = """
from pathlib import Path
import torch
from net import Tiny

def make():
    net = Tiny()
    net.load_state_dict(torch.load(Path(__file__).parent / 'w.pt'))
    return net
"""


def seeded() -> nn.Module:
    torch.manual_seed(0)
    made: nn.Module = _tiny["tiny"](CLASSES)
    return made.eval()


def tiny_file(state: State) -> Callable[[Path], str]:
    def made(folder: Path) -> str:
        (folder / "net.py").write_text(TINY + "\nNETWORKS = {'tiny': Tiny}\n")
        return in_torch(state)(folder)

    return made


def without_counters() -> State:
    return {name: tensor for name, tensor in tiny().state_dict().items() if "num_batches" not in name}


def counted() -> State:
    counters = {f"{name}{kind}": torch.zeros(1, dtype=torch.float64) for name in ("", "conv.", "fc.") for kind in THOP}
    return {**tiny().state_dict(), **counters}


THOP = ("total_ops", "total_params")


def trained(folder: Path) -> str:
    """A training of a plain module of the user's, from weights with another head."""
    (folder / "net.py").write_text(TINY.replace("in_channels=3", "in_channels=1"))
    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (40, 1, 8, 8), dtype=np.uint8)
    np.savez(folder / "x.npz", x_train=images, y_train=np.arange(40) % 4, x_test=images[:8], y_test=np.arange(8) % 4)
    begin = _tiny["Tiny"](in_channels=1, num_classes=7)
    torch.save({"state_dict": begin.state_dict()}, folder / "begin.pt")
    planned = plan_training(
        "standard",
        dataset=f"npz:{folder / 'x.npz'}",
        arch=f"{folder / 'net.py'}:Tiny",
        settings={"epochs": 1, "holdout": 0, "lr": 1e-12, "weight_decay": 0.0, "batch_size": 20, "augment": []},
        init=folder / "begin.pt",
    )
    train(planned, folder / "FILE.pt")
    kept = checkpoint.read(folder / "FILE.pt")["weights"]
    assert torch.allclose(kept["model.conv.weight"], begin.state_dict()["conv.weight"], atol=1e-6)
    assert kept["model.fc.weight"].shape == (4, 4)
    return str(folder / "FILE.pt")


def of_training(folder: Path) -> nn.Module:
    state = checkpoint.read(folder / "FILE.pt")["weights"]
    made: nn.Module = _tiny["Tiny"](in_channels=1, num_classes=4)
    made.load_state_dict({name.removeprefix("model."): tensor for name, tensor in state.items()})
    return made.eval()


@dataclass(frozen=True)
class Habit:
    """`made` writes it into a folder and gives what is evaluated, `said` is what goes with it; it works and answers as
    `right` does, with `notice` among what is told, or is refused in a sentence in which `refused` stands."""

    what: str
    made: Callable[[Path], Any]
    right: Any = NET
    notice: str = ""
    refused: str = ""
    said: dict[str, Any] = field(default_factory=lambda: {"arch": "digit_cnn"})
    x: Tensor = X


ARCH = {"arch": "digit_cnn"}
NORMALISATION = {"mean": [*MEAN], "std": [*STD]}


def no(what: str, made: Callable[[Path], Any], refused: str, **said: Any) -> Habit:
    return Habit(what, made, refused=refused, said={**ARCH, **said})


def code(what: str, made: Callable[[Path], Any], right: Any = None, **more: Any) -> Habit:
    """What needs no architecture."""
    return Habit(what, made, right or seeded(), **{"said": {}, **more})


MADRY = {
    **prefixed("module.model."),
    **prefixed("module.attacker.model."),
    "module.normalizer.new_mean": column(MEAN),
    "module.normalizer.new_std": column(STD),
    "module.attacker.normalize.new_mean": column(MEAN),
    "module.attacker.normalize.new_std": column(STD),
}
BOTH = {"state_dict": S, "model_ema": prefixed("module.", AVERAGE)}
BESIDE = {
    "args": argparse.Namespace(lr=0.1, out=Path("runs"), when=datetime.datetime(2024, 1, 1)),
    "acc": np.float64(0.93),
    "curve": np.arange(3.0),
    "log": collections.defaultdict(list, loss=[1.0, 0.5]),
    "last": collections.deque([1, 2], 5),
    "day": datetime.date(2024, 1, 1),
}
PARTS = {part: under(S, part) for part in ("trunk", "hidden", "classifier")}

HABITS = [
    # How a state dict is wrapped
    Habit("a bare state dict", in_torch(S)),
    Habit("`{state_dict, epoch, best_acc1}` of the ImageNet example", in_torch({"state_dict": S, "epoch": 3})),
    Habit("`{net, acc, epoch}` of pytorch-cifar", in_torch({"net": S, "acc": 93.1, "epoch": 3})),
    Habit("`{model, optimizer, epoch}`", in_torch(lambda: {"model": S, "optimizer": adam()}), notice="optimizer (20"),
    Habit(
        "`{model_state_dict, optimizer_state_dict, loss}` of PyTorch's tutorial",
        in_torch(lambda: {"model_state_dict": S, "optimizer_state_dict": adam(), "loss": torch.tensor(0.3)}),
        notice="what is not used",
    ),
    Habit("`{weights}`", in_torch({"weights": S})),
    Habit("`{params}` or any other key", in_torch({"my_params": S})),
    Habit("keys in keys, `{checkpoint: {model: {state: ...}}}`", in_torch({"checkpoint": {"model": {"state": S}}})),
    Habit("`{ema}` alone", in_torch({"ema": S, "decay": 0.999})),
    Habit("`{module, ...}` of DeepSpeed", in_torch({"module": S, "global_steps": 7})),
    Habit("a list `[state_dict, epoch]`", in_torch([S, 3])),
    Habit("a tuple `(epoch, state_dict)`", in_torch((3, S))),
    Habit("the parts apart, `{trunk: ..., hidden: ..., classifier: ...}`", in_torch(PARTS)),
    Habit("named parameters in place of a state dict", in_torch(lambda: dict(NET.named_parameters()))),
    Habit("a dictionary of NumPy arrays", in_torch({name: tensor.numpy() for name, tensor in S.items()})),
    # Prefixes
    Habit("DataParallel, `module.`", in_torch(prefixed("module."))),
    Habit("torch.compile, `_orig_mod.`", in_torch(prefixed("_orig_mod."))),
    Habit("both, `module._orig_mod.`", in_torch({"model": prefixed("module._orig_mod.")})),
    Habit("FSDP, `_fsdp_wrapped_module.`", in_torch(prefixed("_fsdp_wrapped_module."))),
    Habit("torch.compile of a part, `trunk._orig_mod.0.`", in_torch(renamed("trunk.", "trunk._orig_mod."))),
    Habit("DataParallel of a part, `trunk.module.0.`", in_torch(renamed("trunk.", "trunk.module."))),
    Habit(
        "Lightning, `state_dict` with `model.` and hyperparameters",
        in_torch({"state_dict": prefixed("model."), "hyper_parameters": {"lr": 0.1}, "callbacks": {}}),
    ),
    Habit("`module.model.`", in_torch(prefixed("module.model."))),
    Habit("`module.basic_net.` of MART and LBGAT", in_torch(prefixed("module.basic_net."))),
    Habit("any other prefix, `student.net.`", in_torch(prefixed("student.net."))),
    Habit("`1.` of nn.Sequential(something without weights, net)", in_torch(prefixed("1."))),
    # The normalisation
    Habit(
        "`0.mean`, `0.std`, `1.*` of nn.Sequential(Normalize, net)",
        in_torch({**prefixed("1."), "0.mean": torch.tensor(MEAN), "0.std": torch.tensor(STD)}),
        NORMALISED,
        "normalised as",
    ),
    Habit(
        "`mu`, `sigma` and `model.*`",
        in_torch({**prefixed("model."), "mu": column(MEAN), "sigma": column(STD)}),
        NORMALISED,
        "normalised as",
    ),
    Habit(
        "`normalize.mean`, `normalize.std` among the names",
        in_torch({**S, "normalize.mean": column(MEAN), "normalize.std": column(STD)}),
        NORMALISED,
        "normalised as",
    ),
    Habit(
        "Madry's robustness, `new_mean`, `new_std`, the model twice",
        in_torch({"model": MADRY, "epoch": 3}),
        NORMALISED,
        "normalised as",
    ),
    Habit(
        "`{state_dict, mean: [...], std: [...]}`",
        in_torch({"state_dict": S, "mean": [*MEAN], "std": [*STD]}),
        NORMALISED,
        "normalised as",
    ),
    Habit(
        "`{state_dict, normalize: {mean, std}}` of arrays",
        in_torch({"state_dict": S, "normalize": {"mean": np.array(MEAN), "std": np.array(STD)}}),
        NORMALISED,
        "normalised as",
    ),
    Habit("none stored, `--mean --std`", in_torch(S), NORMALISED, said={**ARCH, **NORMALISATION}),
    Habit(
        "one stored, the same by `--mean --std`, to four digits",
        in_torch({**prefixed("1."), "0.mean": column(MEAN), "0.std": column(STD)}),
        NORMALISED,
        said={**ARCH, **NORMALISATION},
    ),
    no(
        "one stored, another by `--mean --std`",
        in_torch({**prefixed("1."), "0.mean": column(MEAN), "0.std": column(STD)}),
        "says another",
        mean=[0.5],
        std=[0.5],
    ),
    no(
        "one stored in units of 0 to 255",
        in_torch({**prefixed("1."), "0.mean": column((125.3, 123.0, 113.9)), "0.std": column((63.0, 62.1, 66.7))}),
        "Then divide by 255",
    ),
    no(
        "`{state_dict, mean: 0.91, std: 0.01}`, perhaps of accuracies",
        in_torch({"state_dict": S, "mean": 0.91, "std": 0.01}),
        "may or may not be its normalisation",
    ),
    Habit(
        "the same, settled by `--mean --std`",
        in_torch({"state_dict": S, "mean": 0.91, "std": 0.01}),
        said={**ARCH, "mean": [0.0], "std": [1.0]},
    ),
    # Several that fit
    no("EMA weights beside the raw ones", in_torch(BOTH), "choose with --weights"),
    Habit("the same, `--weights model_ema`", in_torch(BOTH), OTHER, said={**ARCH, "weights": "model_ema"}),
    Habit("the same, `--weights state_dict`", in_torch(BOTH), said={**ARCH, "weights": "state_dict"}),
    no("the same, a key that is none", in_torch(BOTH), "no weights under 'swa'", weights="swa"),
    Habit("EMA weights equal to the raw ones", in_torch({"state_dict": S, "ema": prefixed("module.")})),
    no("two networks under two prefixes", in_torch({**prefixed("a."), **prefixed("b.", AVERAGE)}), "under a, b"),
    no("a cascade, `{state_dict: [first, second]}`", in_torch({"state_dict": [S, AVERAGE]}), "state_dict.0"),
    Habit(
        "the same, `--weights state_dict.0`",
        in_torch({"state_dict": [S, AVERAGE]}),
        said={**ARCH, "weights": "state_dict.0"},
    ),
    Habit("SWA's AveragedModel, `n_averaged`", in_torch(lambda: AveragedModel(NET).state_dict()), notice="n_averaged"),
    no(
        "raw weights, and an EMA as a list of tensors (torch-ema)",
        in_torch({"model": S, "ema": {"decay": 0.99, "shadow_params": [*AVERAGE.values()]}}),
        "ema.shadow_params",
    ),
    Habit(
        "the same, `--weights model`",
        in_torch({"model": S, "ema": {"decay": 0.99, "shadow_params": [*AVERAGE.values()]}}),
        notice="ema (10 tensors)",
        said={**ARCH, "weights": "model"},
    ),
    no(
        "another layer beside the network's prefix",
        in_torch({**prefixed("1."), "0.weight": torch.ones(3, 3, 1, 1)}),
        "may be part of the model",
    ),
    # What lies beside the weights
    Habit("argparse.Namespace, NumPy numbers, paths, dates, defaultdict", in_torch({"state_dict": S, **BESIDE})),
    Habit("a training's history in lists", in_torch({"state_dict": S, "history": {"loss": [0.3, 0.2], "lr": [0.1]}})),
    Habit(
        "counters of thop among the weights",
        tiny_file(counted()),
        tiny(),
        "total_ops",
        said={"arch": "net.py:tiny"},
    ),
    Habit(
        "no `num_batches_tracked`, as before torch 0.4.1",
        tiny_file(without_counters()),
        tiny(),
        said={"arch": "net.py:tiny"},
    ),
    no(
        "an OmegaConf or another class of a library or one's own",
        in_torch(lambda: of_class("omegaconf.DictConfig")),
        "omegaconf.DictConfig",
    ),
    no("a whole model, `torch.save(model)`", in_torch(lambda: NET), "holds a whole model"),
    no("pickled code", in_torch({"state_dict": S, "run": print}), "would run code"),
    # Numbers
    Habit("float16 weights", in_torch(cast(torch.float16)), with_values(cast(torch.float16)), "float16"),
    Habit("bfloat16 weights", in_torch(cast(torch.bfloat16)), with_values(cast(torch.bfloat16)), "bfloat16"),
    Habit("float64 weights", in_torch(cast(torch.float64)), notice="float64"),
    no("int8 weights", in_torch({**S, "classifier.weight": S["classifier.weight"].to(torch.int8)}), "of int8"),
    no(
        "float8 weights", in_torch({**S, "classifier.weight": S["classifier.weight"].to(torch.float8_e4m3fn)}), "float8"
    ),
    no("quantised weights", in_torch(quantised), "quantised"),
    no("sparse weights", in_torch(sparse), "to_dense"),
    no("complex weights", in_torch({**S, "hidden.bias": S["hidden.bias"].to(torch.complex64)}), "complex"),
    no("weights on the meta device", in_torch({**S, "hidden.bias": S["hidden.bias"].to("meta")}), "meta device"),
    no("a head said to be larger than its file", in_torch({**S, **expanded(10**9)}), "more than there are in the file"),
    no("weights that are not finite", in_torch({**S, "hidden.bias": S["hidden.bias"] / 0}), "not finite"),
    # The network
    Habit("a head of 4 classes", in_torch(network(0, 4).state_dict()), network(0, 4)),
    Habit(
        "the same in safetensors, which sorts the names",
        lambda folder: safetensors(folder, state=network(0, 4).state_dict()),
        network(0, 4),
    ),
    no(
        "a head of one output, for a sigmoid",
        in_torch({**S, "classifier.weight": torch.ones(1, 128), "classifier.bias": torch.ones(1)}),
        r"logits \[0, z\]",
    ),
    no("weights for images of 1 channel", in_torch(build("digit_cnn", (1, 8, 8), 10).state_dict()), "1 channels"),
    no(
        "weights for images of 16x16", in_torch(build("digit_cnn", (3, 16, 16), 10).state_dict()), "for images of 3x8x8"
    ),
    no("weights of another architecture", in_torch(_tiny["Tiny"]().state_dict()), "has no trunk.0.weight"),
    no("a layer too many", in_torch({**S, "trunk.9.weight": torch.ones(2, 2)}), "beyond the architecture"),
    no("a layer too few", in_torch({name: S[name] for name in S if "hidden" not in name}), "lacks hidden.weight"),
    no("no architecture", in_torch(S), "--arch, as digit_cnn, whose weights are named so", arch=None),
    # Kinds of files
    Habit("safetensors", safetensors),
    Habit("safetensors by the name of a .bin", lambda folder: safetensors(folder, "pytorch_model.bin")),
    Habit("torch's old format", in_torch(S, "FILE.pth", _use_new_zipfile_serialization=False)),
    Habit("arrays in an .npz", arrays),
    Habit("a TorchScript archive, `--arch torchscript`", script, said={"arch": "torchscript"}),
    no("a TorchScript archive", script, "--arch torchscript"),
    no("torch.export's .pt2", in_archive("FILE.pt2", "FILE/models/model.json", "FILE/archive_format"), "torch.export"),
    no("ONNX", of_bytes(b"\x08\x08\x12\x07pytorch" + bytes(99), "FILE.onnx"), "ONNX"),
    no("Keras's or TensorFlow's .h5", of_bytes(b"\x89HDF\r\n\x1a\n" + bytes(99), "FILE.h5"), "HDF5"),
    no("Keras's .keras", in_archive("FILE.keras", "config.json", "model.weights.h5"), "Keras"),
    no("TensorFlow's frozen .pb", of_bytes(b"\n\x0f" + bytes(99), "FILE.pb"), "TensorFlow"),
    no("JAX's msgpack", of_bytes(b"\x81\xa6params\x81" + bytes(99), "FILE.msgpack"), "JAX"),
    no("a plain pickle", of_bytes(pickle.dumps({"w": np.ones(2)}), "FILE.pkl"), "plain pickle"),
    no("one .npy", of_bytes(b"\x93NUMPY\x01\x00" + bytes(99), "FILE.npy"), "one array"),
    no("an index of shards, .json", of_bytes(b'{"weight_map": {}}', "model.safetensors.index.json"), "JSON"),
    no("a notebook", of_bytes(b'{"cells": []}', "FILE.ipynb"), "a notebook"),
    no("a .zip around it", in_archive("FILE.zip", "runs/best.pth"), "best.pth"),
    no("a .tar around it", in_tar, "tar archive"),
    no("a .gz around it", of_bytes(b"\x1f\x8b\x08" + bytes(99), "FILE.pt.gz"), "unpack it"),
    no("the web page of a failed download", of_bytes(b"\n<!DOCTYPE html><html></html>", "FILE.pt"), "web page"),
    no("a pointer of git-lfs", of_bytes(b"version https://git-lfs.github.com/spec/v1\n", "FILE.pt"), "git lfs pull"),
    no("half a file", cut, "download cut"),
    no("an empty file", of_bytes(b"", "FILE.pt"), "empty"),
    no("a folder", in_folder, "pytorch_model.bin"),
    no("a path that does not exist", lambda folder: folder / "FILE.pt", "there is no checkpoint"),
    no(
        "the file of the code in place of the weights",
        of_code("FILE.py", {"FILE.py": TINY}),
        "FILE.py:FUNCTION",
        arch=None,
    ),
    # Code
    code("a factory, `FILE.py:make`, whose file imports one beside it", of_code("FILE.py:make", BY_FACTORY)),
    code(
        "the same where a package is beside it, which imports within itself",
        of_code(
            "FILE.py:make",
            {
                "FILE.py": FACTORY.replace("from net", "from nets.tiny"),
                "nets/tiny.py": "from .layers import *\n",
                "nets/layers.py": TINY,
            },
        ),
    ),
    code(
        "a factory in a package, `from .net import Tiny`",
        of_code(
            "nets/FILE.py:make",
            {
                "nets/__init__.py": "",
                "nets/FILE.py": FACTORY.replace("from net", "from .net"),
                "nets/net.py": TINY,
            },
        ),
    ),
    code(
        "a factory that imports what is beside it as it is called",
        of_code("FILE.py:make", {"FILE.py": LATE, "inner.py": FACTORY, "net.py": TINY}),
    ),
    code(
        "one that takes `num_classes` and `in_channels`",
        of_code(
            "FILE.py:make",
            {"FILE.py": FACTORY.replace(*ASKING).replace("Tiny()", "Tiny(in_channels, num_classes)"), "net.py": TINY},
        ),
    ),
    code(
        "one that loads weights beside it, by `Path(__file__).parent`",
        lambda folder: (
            in_torch(tiny().state_dict(), "w.pt")(folder)
            and of_code("FILE.py:make", {"FILE.py": LOADING, "net.py": TINY})(folder)
        ),
        tiny(),
    ),
    code(
        "the same by a relative path, from elsewhere",
        of_code(
            "FILE.py:make", {"FILE.py": LOADING.replace("Path(__file__).parent / 'w.pt'", "'w.pt'"), "net.py": TINY}
        ),
        refused=r"Path\(__file__\).parent",
    ),
    code(
        "a factory with `--mean --std`",
        of_code("FILE.py:make", BY_FACTORY),
        lambda x: seeded()((x - column(MEAN)) / column(STD)),
        notice="is normalised by",
        said=NORMALISATION,
    ),
    code(
        "a module in Python with `mean` and `std`",
        lambda folder: seeded(),
        lambda x: seeded()((x - column(MEAN)) / column(STD)),
        notice="is normalised by",
        said=NORMALISATION,
    ),
    code(
        "a network of robench's in Python, normalised twice",
        lambda folder: NORMALISED,
        refused="of its own",
        said=NORMALISATION,
    ),
    code(
        "a factory with `--arch`", of_code("FILE.py:make", BY_FACTORY), refused="which .*FILE.py:make is not", said=ARCH
    ),
    code(
        "a factory that asks for what robench does not know",
        of_code("FILE.py:make", {"FILE.py": "def make(depth): ...\n"}),
        refused="asks for depth",
    ),
    code(
        "a factory that gives no module",
        of_code("FILE.py:make", {"FILE.py": "def make(): return {}\n"}),
        refused="nn.Module, got dict",
    ),
    Habit(
        "weights of one's own network, `--arch net.py:tiny`",
        tiny_file(tiny().state_dict()),
        tiny(),
        said={"arch": "net.py:tiny"},
    ),
    Habit(
        "the same by a table `NETWORKS`, `--arch net.py`, 7 classes",
        tiny_file(prefixed("module.", tiny(0, 7).state_dict())),
        tiny(0, 7),
        said={"arch": "net.py"},
    ),
    Habit("a checkpoint of robench", ours, NORMALISED, said={}),
    Habit(
        "one trained from a plain module and `--init` with another head",
        trained,
        of_training,
        said={"arch": "net.py:Tiny"},
        x=X[:, :1],
    ),
    code(
        "a checkpoint of robench whose card has the wrong type",
        lambda folder: ours(folder, arch=5),
        refused="arch: input should be a valid string, got '5'",
    ),
    code(
        "one whose shape cannot be", lambda folder: ours(folder, shape=[-1, 8, 8]), refused="shape.0: .*greater than 0"
    ),
    code("one of too many classes", lambda folder: ours(folder, classes=10**12), refused="classes: .*less than"),
    code(
        "one of other classes than its weights",
        lambda folder: ours(folder, classes=9),
        refused="for 10 classes, not for 9",
    ),
    code(
        "one whose mean is NaN", lambda folder: ours(folder, mean=[float("nan")]), refused="a mean from 0 to 1, got nan"
    ),
    code("one of no norm", lambda folder: ours(folder, norm="l7"), refused="norm: .*'linf' or 'l2'"),
    code("one of a nonsense eps", lambda folder: ours(folder, eps="big"), refused="a positive number or a fraction"),
    code("one whose recipe is a text", lambda folder: ours(folder, recipe="trades"), refused="recipe: .*dictionary"),
]


@dataclass(frozen=True)
class Outcome:
    """`works` with the right logits, after these notices; or the sentence."""

    works: bool
    notices: str
    sentence: str


def tried(habit: Habit, folder: Path) -> Outcome:
    """What becomes of it; AssertionError where it works and answers otherwise than it should."""
    given = habit.made(folder)
    said = dict(habit.said)
    if str(said.get("arch")).startswith("net.py"):
        said["arch"] = str(folder / said["arch"])
    try:
        subject = load_model(given, shape=habit.x.shape[1:], classes=CLASSES, **said)
    except UserError as error:
        return Outcome(False, "", _placeless(str(error), folder))
    right = habit.right
    right = right(folder) if right is of_training else right
    with torch.no_grad():
        assert torch.allclose(subject.model(habit.x), right(habit.x), atol=1e-6), habit.what
    return Outcome(True, "; ".join(_placeless(notice, folder) for notice in subject.notices), "")


def _placeless(text: str, folder: Path) -> str:
    return text.replace(f"{folder}/", "").replace(str(folder), "FOLDER")


@contextmanager
def folders() -> Iterator[Callable[[], Path]]:
    with tempfile.TemporaryDirectory() as whole:
        yield lambda: Path(tempfile.mkdtemp(dir=Path(whole).resolve()))


@pytest.fixture(scope="module")
def outcomes() -> dict[str, Outcome]:
    with folders() as fresh, warnings.catch_warnings():
        warnings.simplefilter("ignore", Notice)
        return {habit.what: tried(habit, fresh()) for habit in HABITS}


@pytest.mark.parametrize("habit", HABITS, ids=lambda habit: habit.what)
def test_a_habit_works_or_is_told_what_to_do(habit: Habit, outcomes: dict[str, Outcome]) -> None:
    found = outcomes[habit.what]
    if habit.refused:
        assert re.search(habit.refused, found.sentence), found
        assert "\n" not in found.sentence
    else:
        assert found.works, found.sentence
        assert habit.notice in found.notices


def page(outcomes: dict[str, Outcome]) -> str:
    """The table as Markdown."""
    rows = [f"| {habit.what} | {_result(outcomes[habit.what])} |" for habit in HABITS]
    working = sum(each.works for each in outcomes.values())
    return HEAD.format(count=len(HABITS), working=working) + "\n".join(rows) + "\n"


def _result(found: Outcome) -> str:
    told = f"; told: {found.notices}" if found.notices else ""
    return (f"works{told}" if found.works else f"refused: {found.sentence}").replace("|", "\\|")


HEAD = """# What people save of a model, and what becomes of it

Made by `python -m tests.workflows.test_habits_of_models`, which makes each on the fly: {count} habits, of which
{working} work, with the logits of the network that was saved. Where not said otherwise `--arch` names the network.

| what is given | what becomes of it |
| --- | --- |
"""


def test_the_page_is_current(outcomes: dict[str, Outcome]) -> None:
    assert PAGE.read_text() == page(outcomes), "python -m tests.workflows.test_habits_of_models writes it"


def main() -> None:
    with folders() as fresh:
        PAGE.write_text(page({habit.what: tried(habit, fresh()) for habit in HABITS}))


if __name__ == "__main__":
    main()
