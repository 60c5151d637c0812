"""The description of a model holds all that decides its numbers, and nothing else."""

import ctypes
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize

from robench.models.description import describe

SETUP = """
import collections, dataclasses, enum, functools, itertools, logging, math, operator, random, sys, threading, types
from pathlib import Path
import numpy as np, torch
from torch import nn
import torch.nn.functional as F
log = logging.getLogger(__name__)
class D(nn.Module):
    def __init__(self, f=None):
        super().__init__()
        self.f = f
        self.lock = threading.Lock()
    def forward(self, x):
        log.info("asked")
        return self.f(x)
"""

DIFFER = {
    "an object's attribute": "class T:\n def __init__(s, k): s.k = k\n def __call__(s, x): return x * s.k\nf = T({})",
    "a lambda": "f = lambda x: x + {}",
    "two lambdas of one line": "a, b = lambda x: x, lambda x: x * 2\nf = (a, b)[{}]",
    "a closure": "def make(k):\n def f(x): return x * k\n return f\nf = make({})",
    "a default": "def f(x, k={}): return x * k",
    "a keyword default": "def f(x, *, k={}): return x * k",
    "a partial": "def g(k, x): return x * k\nf = functools.partial(g, {})",
    "a global number": "K = {}\ndef f(x): return x * K",
    "a global of a function that it calls": "K = {}\ndef g(x): return x * K\ndef f(x): return g(x)",
    "a global in a nested function": "K = {}\ndef f(x):\n return [x * K for _ in range(1)][0]",
    "a bound method": "class T:\n def __init__(s): s.k = {}\n def g(s, x): return x * s.k\nf = T().g",
    "a base class": "class B:\n def g(s, x): return x * {}\nclass T(B):\n def __call__(s, x): return s.g(x)\nf = T()",
    "a property": "class T:\n @property\n def k(s): return {}\n def __call__(s, x): return x * s.k\nf = T()",
    "a class attribute": "class T:\n k = {}\n def __call__(s, x): return x * s.k\nf = T()",
    "a static method": "class T:\n @staticmethod\n def k(): return {}\n def __call__(s, x): return x * s.k()\nf = T()",
    "a slot": "class T:\n __slots__ = ('k',)\n def __call__(s, x): return x * s.k\nf = T(); f.k = {}",
    "a hidden slot": "class T:\n __slots__ = ('__k',)\n def __init__(s, k): s.__k = k\nf = T({})",
    "a dataclass": "@dataclasses.dataclass\nclass T:\n k: int = 5\n def __call__(s, x): return x * s.k\nf = T({})",
    "an enum's member": "class E(enum.Enum):\n A = 5\n B = 6\nclass T: pass\nf = T(); f.e = list(E)[{}]",
    "an enum's value": "class E(enum.Enum):\n A = {}\ndef f(x): return x * E.A.value",
    "a dictionary": "K = dict(a=[1, (2, {})])\ndef f(x): return x * K['a'][1][1]",
    "the order of a dictionary": "K = {{k: k for k in [(1, 2), (2, 1)][{}]}}\ndef f(x): return x * next(iter(K))",
    "a set": "K = {{7, {}}}\ndef f(x): return x * sum(K)",
    "an array": "K = np.arange(3) + {}\ndef f(x): return x * K[0]",
    "an array of objects": "K = np.array([None, {}], dtype=object)\ndef f(x): return x * K[1]",
    "a NumPy number": "K = np.float32({})\ndef f(x): return x * K",
    "a tensor in a list": "K = [torch.tensor({})]\ndef f(x): return x * K[0]",
    "a dtype": "K = [torch.float32, torch.float64][{}]\ndef f(x): return x.to(K)",
    "a sparse tensor": "K = (torch.eye(2) * ({} + 1)).to_sparse()\ndef f(x): return K @ x",
    "a network in a closure": "def make(n):\n return lambda x: n(x)\nn = nn.Linear(1, 1)\n"
    "nn.init.constant_(n.weight, {}); nn.init.zeros_(n.bias)\nf = make(n)",
    "a default dictionary": "K = collections.defaultdict([int, float][{}])\ndef f(x): return x * K[0]",
    "a queue": "K = collections.deque([{}])\ndef f(x): return x * K[0]",
    "a subclass of list": "class L(list): pass\nK = L([{}])\ndef f(x): return x * K[0]",
    "a subclass of int": "class I(int): pass\nK = I({})\ndef f(x): return x * K",
    "a namespace": "K = types.SimpleNamespace(k={})\ndef f(x): return x * K.k",
    "random states": "K = [random.Random({}), 0]\ndef f(x): return x * K[0].random()",
    "NumPy's random states": "K = np.random.default_rng({})\ndef f(x): return x * K.random()",
    "torch's random states": "K = torch.Generator().manual_seed({})\ndef f(x): return torch.rand(1, generator=K)",
    "a function in a table": "T = dict(a=[torch.sin, torch.cos][{}])\ndef f(x): return T['a'](x)",
    "a function of a library": "g = [F.relu, F.elu][{}]\ndef f(x): return g(x)",
    "a method of a library": "g = [torch.Tensor.sin, torch.Tensor.cos][{}]\ndef f(x): return g(x)",
    "a method of C, bound": "g = dict(a={}).get\ndef f(x): return x * g('a')",
    "what operator makes": "g = operator.itemgetter({})\ndef f(x): return g(x)",
    "a cached function": "@functools.cache\ndef g(): return {}\ndef f(x): return x * g()",
    "a cached property": "class T:\n @functools.cached_property\n def k(s): return {}\nf = T()",
    "a decorator": "def by(g):\n @functools.wraps(g)\n def h(x): return g(x) * {}\n return h\n@by\ndef f(x): return x",
    "a decorator of torch": "@torch.no_grad()\ndef f(x): return x * {}",
    "a name that another mentions": "K = {}\nclass T:\n def __call__(s, x): return x * K\nf = T()",
    "a metaclass": "class M(type):\n def g(c, x): return x * {}\nclass T(metaclass=M): pass\ndef f(x): return T.g(x)",
    "an exception caught": "def f(x):\n try: return x.y\n except [AttributeError, KeyError][{}]: return x",
    "an autograd function": "class A(torch.autograd.Function):\n @staticmethod\n def forward(ctx, x): return x\n"
    " @staticmethod\n def backward(ctx, g): return g * {}\ndef f(x): return A.apply(x)",
    "a cycle": "class T: pass\nf = T(); f.other = T(); f.other.other = f; f.other.k = {}",
    "a recursive function": "def f(x, n=2): return x * {} if not n else f(x, n - 1)",
    "a comparison": "def f(x): return x if x {} 0 else -x",
    "an order of arguments": "def g(a, b): return a - b\ndef f(x): return g(x, 1) if {} else g(1, x)",
    "a hidden library call": "K = F\nif {}: K = types.SimpleNamespace(relu=F.elu)\ndef f(x): return K.relu(x)",
    "text": "K = ['bilinear', 'nearest'][{}]\ndef f(x): return F.interpolate(x, mode=K)",
}
OTHERS = {"a comparison": ("<", "<=")}


def written(source: str) -> Any:
    """What the source calls `model`, or D(f)."""
    namespace: dict[str, Any] = {"__name__": "user"}
    exec(SETUP + source, namespace)
    return namespace["model"] if "model" in namespace else namespace["D"](namespace["f"])


def fingerprint(source: str) -> str:
    description = describe(written(source))
    assert description.hidden == ()
    return description.fingerprint


@pytest.mark.parametrize("kind", DIFFER)
def test_what_decides_a_number_is_in_the_description(kind: str) -> None:
    first, second = (DIFFER[kind].format(value) for value in OTHERS.get(kind, (0, 1)))
    assert fingerprint(first) == fingerprint(first)
    assert fingerprint(first) != fingerprint(second)


AGREE = {
    "a comment": ("def f(x): return x * 2", "# a comment\n\ndef f(x):\n    # another\n    return x * 2"),
    "a docstring": ("def f(x):\n  return (x, None)", 'def f(x):\n  """What it does."""\n  return (x, None)'),
    "a docstring of a class": (
        "class T:\n def __call__(s, x): return x\nf = T()",
        'class T:\n """Doc."""\n def __call__(s, x):\n  "Doc."\n  return x\nf = T()',
    ),
    "a docstring of a class within a function": (
        "def f(x):\n class T:\n  k = 2\n return x * T.k",
        'def f(x):\n class T:\n  "Doc."\n  k = 2\n return x * T.k',
    ),
    "layout": (
        "def f(x):\n if x > 0 and x < 1: return (x + 1) * 2\n else: return max(x, 0)",
        "def f(x):\n    if (\n        x > 0\n        and x < 1\n    ):\n        return (x + 1) \\\n            * 2\n"
        "    else:\n        return max(\n            x,\n            0,\n        )",
    ),
    "layout of a loop": (
        "def f(x):\n for i in range(3):\n  while x < i: x = x + 1\n  with torch.no_grad(): x = x * 2\n return x",
        "def f(x):\n\n for i in range(\n   3\n ):\n  while (\n   x < i\n  ):\n   x = x + 1\n\n"
        "  with torch.no_grad():\n\n   x = x * 2\n return x",
    ),
    "annotations": ("def f(x): return x", "def f(x: 'Tensor') -> 'Tensor': return x"),
    "unrelated code": ("def f(x): return x", "import json\nOTHER = 5\ndef g(): return OTHER\ndef f(x): return x"),
    "the order of attributes": (
        "class T: pass\nf = T(); f.a = 1; f.b = 2",
        "class T: pass\nf = T(); f.b = 2; f.a = 1",
    ),
    "the order of a set": ("K = {'a', 'b', 'c'}\ndef f(x): return K", "K = {'c', 'a', 'b'}\ndef f(x): return K"),
    "one object or two equal ones": (
        "class T: pass\nt = T()\nf = [t, t]",
        "class T: pass\nf = [T(), T()]",
    ),
    "the mode": ("f = nn.Identity().train()", "f = nn.Identity().eval()"),
    "the number of a hook": (
        "model = nn.Identity()\nmodel.register_forward_hook(print)",
        "nn.Identity().register_forward_hook(print)\nmodel = nn.Identity()\nmodel.register_forward_hook(print)",
    ),
    "the number of an autograd function": (
        "class A(torch.autograd.Function): pass\ndef f(x): return A.apply(x)",
        "class B(torch.autograd.Function): pass\nclass A(torch.autograd.Function): pass\ndef f(x): return A.apply(x)",
    ),
    "a lock, a log": ("def f(x): return x", "def f(x): return x"),
}


@pytest.mark.parametrize("kind", AGREE)
def test_what_decides_nothing_is_not(kind: str) -> None:
    first, second = AGREE[kind]
    assert fingerprint(first) == fingerprint(second)


def linear() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(2, 2)


def hooked(kind: str, hook: Any, **options: Any) -> nn.Module:
    module = linear()
    getattr(module, f"register_{kind}_hook")(hook, **options)
    return nn.Sequential(module)


def double(*given: Any) -> None: ...


class Half(nn.Module):
    def __init__(self, k: float = 0.5) -> None:
        super().__init__()
        self.k = k

    def forward(self, x: Tensor) -> Tensor:
        return x * self.k


def parametrised(k: float) -> nn.Module:
    module = linear()
    parametrize.register_parametrization(module, "weight", Half(k))
    return module


def overridden(k: int) -> nn.Module:
    module = linear()
    module.forward = lambda x: x * k  # type: ignore[method-assign, assignment]
    return module


def buffered(k: float) -> nn.Module:
    module = nn.Module()
    module.register_buffer("k", torch.tensor(k), persistent=False)
    return module


def scripted(k: float) -> nn.Module:
    module: nn.Module = torch.jit.script(Half(k))
    return module


def compiled() -> list[nn.Module]:
    return [torch.compile(Half(k)) for k in (0.5, 0.25)]  # type: ignore[misc]


NETWORKS: dict[str, Callable[[], list[nn.Module]]] = {
    "weights": lambda: [linear(), nn.Linear(2, 2)],
    "non-persistent buffers": lambda: [buffered(1.0), buffered(2.0)],
    "structure": lambda: [nn.Sequential(linear(), nn.ReLU()), nn.Sequential(nn.ReLU(), linear())],
    "options of layers": lambda: [nn.LeakyReLU(0.1), nn.LeakyReLU(0.2)],
    "kinds of layers": lambda: [nn.ReLU(), nn.ReLU6()],
    "forward hooks": lambda: [linear(), hooked("forward", double), hooked("forward_pre", double)],
    "backward hooks": lambda: [hooked("full_backward", double), hooked("full_backward_pre", double)],
    "what hooks are given": lambda: [hooked("forward", double), hooked("forward", double, with_kwargs=True)],
    "parametrizations": lambda: [parametrised(0.5), parametrised(0.25), linear()],
    "parametrizations of torch": lambda: [parametrizations.weight_norm(linear()), linear()],
    "an override of an instance": lambda: [overridden(1), overridden(2), linear()],
    "TorchScript": lambda: [scripted(1.0), scripted(2.0)],
    "a traced graph": lambda: [torch.fx.symbolic_trace(nn.Sequential(linear(), act)) for act in (nn.ReLU(), nn.ELU())],
}


@pytest.mark.parametrize("kind", [*NETWORKS, pytest.param("a compiled module", marks=pytest.mark.slow)])
def test_networks_that_differ_are_told_apart(kind: str) -> None:
    torch.manual_seed(1)
    made = NETWORKS.get(kind, compiled)
    first, second = ([describe(each) for each in made()] for _ in range(2))
    assert [each.hidden for each in first] == [()] * len(first)
    assert len({each.fingerprint for each in first}) == len(first)
    if kind != "weights":
        assert first == second


def test_a_hook_of_all_modules_is_in_the_description() -> None:
    before = describe(linear())
    handle = nn.modules.module.register_module_forward_hook(double)
    try:
        assert describe(linear()) != before
    finally:
        handle.remove()
    assert describe(linear()) == before


class Opaque:
    def __init__(self, held: Any) -> None:
        self.held = held

    def __call__(self, x: Any) -> Any:
        return x


def test_what_cannot_be_seen_is_said(tmp_path: Path) -> None:
    def generated() -> Any:
        yield 1

    (tmp_path / "a").write_text("")
    with (tmp_path / "a").open() as file, socket.socket() as connection:
        held = [file, connection, generated(), ctypes.pointer(ctypes.c_int(1)), ctypes.CDLL(None).abs]
        for each in held:
            (words,) = describe(Opaque(each)).hidden
            assert "0x" not in words
            assert "state that cannot be read" in words
    assert describe(Opaque(threading.Lock())).hidden == ()


HELPERS = {
    "a function of a module": ("import {h}\ndef f(x): return {h}.g(x)", "def g(x): return x * {k}"),
    "a name from a module": ("from {h} import g\ndef f(x): return g(x)", "def g(x): return x * {k}"),
    "a number of a module": ("import {h} as h\ndef f(x): return h.K * x", "K = {k}"),
    "what a module's function calls": ("import {h}\ndef f(x): return {h}.g(x)", "K = {k}\ndef g(x): return x * K"),
    "an import within": ("def f(x):\n import {h}\n return {h}.g(x)", "def g(x): return x * {k}"),
    "a name imported within": ("def f(x):\n from {h} import g\n return g(x)", "def g(x): return x * {k}"),
    "by its name": ("import {h}\ndef f(x): return getattr({h}, 'g')(x)", "def g(x): return x * {k}"),
}


@pytest.mark.parametrize("kind", HELPERS)
def test_the_modules_that_a_model_imports_are_followed(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    user, helper = HELPERS[kind]
    found = []
    unrelated = "\nUNRELATED = 5\n# and a comment\n"
    for number, version in enumerate((helper.format(k=1), helper.format(k=2), helper.format(k=1) + unrelated)):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "a_helper.py").write_text(version)
        monkeypatch.syspath_prepend(folder)
        monkeypatch.delitem(sys.modules, "a_helper", raising=False)
        found.append(fingerprint(user.format(h="a_helper")))
    assert found[0] != found[1]
    if kind != "by its name":
        assert found[0] == found[2]


PROGRAM = """
import sys
sys.path.insert(0, {here!r})
from robench.evaluation.target import load_model
print(load_model({factory!r}, shape=(1, 8, 8), classes=10).key())
"""

FACTORY = """
import torch
from torch import nn
from mine_helper import scale
NAMES = {"one", "two", "three"}
class Net(nn.Module):
    def __init__(self, f):
        super().__init__()
        torch.manual_seed(0)
        self.inner, self.f, self.names = nn.Linear(64, 10), f, {"a", "b", "c"}
        self.kept = object()
    def forward(self, x):
        return scale(self.f(self.inner(x.flatten(1)))) if len(NAMES) else x
def net():
    return Net(lambda x: x + len(NAMES))
"""


def test_the_key_is_the_same_in_every_process_whatever_the_files_are_called(tmp_path: Path) -> None:
    found = set()
    for number, (name, more) in enumerate({"mine": "", "moved": "\n# a comment\ndef unrelated(): return 5\n"}.items()):
        folder = tmp_path / name
        folder.mkdir()
        (folder / f"{name}.py").write_text(more.replace("5", "6") + FACTORY + more)
        (folder / "mine_helper.py").write_text("def scale(x):\n    return x * 2\n")
        program = PROGRAM.format(here=str(folder), factory=f"{folder / name}.py:net")
        environment = {**os.environ, "PYTHONHASHSEED": str(number), "OMP_NUM_THREADS": "1"}
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment)
        assert done.returncode == 0, done.stderr
        found.add(done.stdout)
    assert len(found) == 1
    assert "hidden" not in found.pop()
