"""A CUDA device simulated on the CPU, so that a program's `cuda` paths can be run and tested where there is no GPU.

`install()`, called before the program is imported, makes `torch.cuda.is_available()` true. Tensors asked for on "cuda"
are wrappers that report that device and hold their numbers on the CPU, where every operation on them is made. What
CUDA refuses is refused: an operation on tensors of both devices (but for CPU tensors of no dimension, and CPU indices
of CUDA tensors), a generator of one device with a tensor of the other, `.numpy()` of a CUDA tensor.

`counts` holds what was done since `reset()`: "ops" (operations on the device, about its kernel launches; views are
none), "syncs" (the host waited: .item(), bool(), nonzero, a boolean index, a copy to the host, synchronize()), "copies"
and "bytes" from the host. `names` counts the operations by name; `where` the lines of the program that waited or
copied. In `with memory(n)` a layer raises torch.OutOfMemoryError for more than n images. Where the settings allow TF32
(torch's default for convolutions), forward operands of convolutions and products are rounded to it. Autocast is
simulated.

Not simulated: streams, speed, other rounding, cuDNN's and foreach kernels, memory in bytes, several devices, NCCL,
graphs, torch.compile, a fork after CUDA has begun, other threads, processes started by the program. Use a process of
its own: nothing is put back. torch >= 2.11.
"""

# mypy: ignore-errors
# It puts other things in the place of torch's own.

import contextlib
import functools
import sys
from collections import Counter
from typing import Any

import torch
from torch import library
from torch.utils import backend_registration as registration
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

CUDA = torch.device("cuda", 0)
OWN = "simulated"  # as torch's own code knows the device: it would ask a driver about "cuda"
aten = torch.ops.aten
counts: Counter[str] = Counter()
names: Counter[str] = Counter()
where: Counter[tuple[str, str]] = Counter()
_roots: list[str] = []
_most: list[int | None] = [None]
_libraries = [library.Library("aten", "IMPL"), library.Library("_", "IMPL")]
_Generator, _to = torch.Generator, torch.Tensor.to
_generators: set[int] = set()  # those of CUDA, by where they lie: torch hands on another object for the same

WAITS = {"_local_scalar_dense", "nonzero", "masked_select", "_unique2", "unique_dim", "unique_consecutive", "equal",
         "repeat_interleave", "bincount", "_assert_async"}  # fmt: skip
FREE = {"detach", "alias", "_unsafe_view", "lift", "lift_fresh", "empty", "empty_like", "empty_strided", "new_empty",
        "new_empty_strided", "is_pinned"}  # fmt: skip
INDEXING = {"index", "_unsafe_index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index_put"}
PRODUCTS = {"mm", "addmm", "bmm", "baddbmm"}
INDICES = {torch.int64, torch.int32, torch.bool, torch.uint8}


class Simulated(torch.Tensor):
    """Reports the device cuda:0; `held` has the numbers."""

    held: torch.Tensor
    __module__ = "torch"  # eagerpy, and so foolbox, looks there
    __torch_function__ = torch._C._disabled_torch_function_impl
    device = property(lambda self: CUDA)
    is_cuda = property(lambda self: True)

    @staticmethod
    def __new__(cls, held: torch.Tensor) -> "Simulated":
        made = torch.Tensor._make_wrapper_subclass(
            cls, held.size(), strides=held.stride(), storage_offset=held.storage_offset(), dtype=held.dtype,
            layout=held.layout, device=torch.device(OWN, 0), requires_grad=False,
        )  # fmt: skip
        made.held = held
        return made

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _call(func, args, kwargs or {})

    def numpy(self, *_: Any, **__: Any) -> Any:
        raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() first.")

    __array__ = numpy
    tolist = lambda self: self.cpu().tolist()  # noqa: E731
    __format__ = lambda self, spec: format(self.held.item() if not self.dim() else repr(self), spec)  # noqa: E731
    __repr__ = lambda self, **_: f"{self.held!r} on cuda:0"  # noqa: E731
    __reduce_ex__ = lambda self, protocol: self.held.__reduce_ex__(protocol)  # noqa: E731  # is loaded to the CPU

    def __deepcopy__(self, memo: dict[int, Any]) -> torch.Tensor:
        if id(self) not in memo:
            memo[id(self)] = copied = self.detach().clone().requires_grad_(self.requires_grad)
            copied.__dict__.update({name: value for name, value in self.__dict__.items() if name != "held"})
        return memo[id(self)]


class _Mode(TorchDispatchMode):
    """Sees what takes no simulated tensor: factories, and copies to the device."""

    __torch_dispatch__ = lambda self, func, _, args=(), kwargs=None: _call(func, args, kwargs or {})  # noqa: E731


def _call(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    name, leaves = func._schema.name.split("::")[1], tree_leaves((args, kwargs))
    tensors = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]
    on, asked = [each for each in tensors if isinstance(each, Simulated)], kwargs.get("device")
    to_device = _on_cuda(asked) or (bool(on) and asked is None)
    copies = name in ("_to_copy", "copy_", "_copy_from")
    if not copies:
        _refuse(name, tensors, on, leaves, "cuda" if to_device else "cpu")
    if not on and not to_device:
        return func(*args, **kwargs)
    to_host = bool(on) and (
        (name == "_to_copy" and not to_device) or (name == "copy_" and not isinstance(args[0], Simulated))
    )
    _count(func, name, args, [each for each in tensors if not isinstance(each, Simulated) and each.dim()], to_host)
    layer = name == "convolution" or name in PRODUCTS
    if layer and _most[0] is not None and len(on[name in ("addmm", "baddbmm")]) > _most[0]:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate more than is simulated.")
    if "device" in kwargs:
        kwargs = {**kwargs, "device": torch.device("cpu")}
    kwargs = {key: value for key, value in kwargs.items() if key != "pin_memory"}
    args, kwargs = tree_map(lambda each: each.held if isinstance(each, Simulated) else each, (args, kwargs))
    given = func(*_as_tf32(name, args), **kwargs)
    if name == "_to_copy" and given is args[0]:
        given = given.clone()
    if to_host or not to_device or not isinstance(given, (torch.Tensor, list, tuple)):
        return tensors[0] if name == "copy_" else given
    known = {id(getattr(each, "held", each)): each for each in tensors}  # what was written in place is what was given
    return tree_map(lambda each: known.get(id(each)) if id(each) in known else Simulated(each)
                    if isinstance(each, torch.Tensor) else each, given)  # fmt: skip


def _refuse(name: str, tensors: list[Any], on: list[Any], leaves: list[Any], device: str) -> None:
    others = [each for each in tensors if not isinstance(each, Simulated) and each.dim()]
    if name in INDEXING and on and on[0] is tensors[0]:
        others = [each for each in others if each.dtype not in INDICES]
    if on and others:
        both = "Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cpu!"
        raise RuntimeError(f"{both} (when checking arguments of aten::{name})")
    for each in leaves:
        found = "cuda" if isinstance(each, _Generator) and each._cdata in _generators else "cpu"
        if isinstance(each, _Generator) and found != device:
            raise RuntimeError(f"Expected a '{device}' device type for generator but found '{found}' (aten::{name})")


def _count(func: Any, name: str, args: Any, hosts: list[Any], to_host: bool) -> None:
    masks = tree_leaves(args[1]) if name in INDEXING else []
    masked = any(isinstance(each, torch.Tensor) and each.dtype in (torch.bool, torch.uint8) for each in masks)
    if name in WAITS or masked or to_host:
        _note("syncs", name)
    elif hosts:
        counts["bytes"] += sum(each.numel() * each.element_size() for each in hosts)
        _note("copies", name)
    if not func.is_view and name not in FREE and not to_host:
        counts["ops"] += 1
        names[name] += 1


def _note(kind: str, name: str) -> None:
    counts[kind] += 1
    frame: Any = sys._getframe()
    while frame and _roots and not any(root in frame.f_code.co_filename for root in _roots):
        frame = frame.f_back
    if frame and _roots:
        where[kind, f"{frame.f_code.co_filename.rsplit('/', 1)[-1]}:{frame.f_lineno} {name}"] += 1


def _as_tf32(name: str, args: Any) -> Any:
    """The operands with 10 bits of mantissa, where the settings ask for that."""
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    convolves = name == "convolution" and cudnn.enabled and cudnn.conv.fp32_precision == "tf32"
    if not convolves and not (name in PRODUCTS and matmul.fp32_precision == "tf32"):
        return args

    def rounded(value: Any) -> Any:
        if not isinstance(value, torch.Tensor) or value.dtype != torch.float32 or value.dim() < 2:
            return value
        bits = value.clone().view(torch.int32)
        return ((bits + 0x0FFF + ((bits >> 13) & 1)) & ~0x1FFF).view(torch.float32)

    return tree_map(rounded, args)


def _on_cuda(device: Any) -> bool:
    return isinstance(device, (str, torch.device)) and torch.device(device).type in ("cuda", OWN)


def _sent(tensor: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
    """Tensor.to, of "cuda" with an index, which torch would ask the driver for."""
    if args and isinstance(args[0], torch.Tensor):
        args = (args[0].device, args[0].dtype, *args[1:])
    order = ["dtype"] if args and isinstance(args[0], torch.dtype) else ["device", "dtype"]
    given = {**kwargs, **dict(zip([*order, "non_blocking", "copy"], args, strict=False))}
    asked = {name: value for name, value in given.items() if value is not None}
    if _on_cuda(asked.get("device")):
        asked["device"] = CUDA
        if isinstance(tensor, Simulated):
            del asked["device"]
    if asked.keys() - {"non_blocking", "copy"}:
        return _to(tensor, **asked)
    return tensor.clone() if asked.get("copy") else tensor


def _moved(factory: Any) -> Any:
    """A factory that would ask the driver before it makes anything."""

    @functools.wraps(factory)
    def made(data: Any, *args: Any, device: Any = None, requires_grad: bool = False, **kwargs: Any) -> torch.Tensor:
        there = _on_cuda(device)
        tensor = factory(data, *args, **kwargs) if there else factory(data, *args, device=device, **kwargs)
        tensor = tensor.to(CUDA) if there else tensor
        return tensor.requires_grad_() if requires_grad else tensor

    return made


class Generator(_Generator):
    """A generator that says it is of the device it was asked for."""

    def __new__(cls, device: Any = "cpu") -> "Generator":
        made = _Generator.__new__(cls, "cpu")
        (_generators.add if _on_cuda(device) else _generators.discard)(made._cdata)
        return made

    def __init__(self, device: Any = "cpu") -> None:
        super().__init__()

    device = property(lambda self: CUDA if self._cdata in _generators else torch.device("cpu"))


class _Hook(torch._C._acc.PrivateUse1Hooks):
    """An accelerator without streams, for autograd to find instead of CUDA."""

    is_available = has_primary_context = lambda self, *_: False
    is_built = lambda self: True  # noqa: E731


class _Backend(registration._DummyBackendModule):
    """What torch asks of torch.cuda where it knows the device by its own name."""

    __getattr__ = lambda self, name: getattr(torch.cuda, name)  # noqa: E731
    get_amp_supported_dtype = lambda self: [torch.bfloat16, torch.float16]  # noqa: E731


def _cast() -> None:
    """Autocast for "cuda", of the layers."""
    _libraries[1].fallback(library.fallthrough_kernel, "AutocastPrivateUse1")
    below = torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastPrivateUse1)

    def lowered(op: Any) -> Any:
        def lower(each: Any) -> Any:
            floats = isinstance(each, torch.Tensor) and each.is_floating_point() and each.dtype != torch.float64
            return each.to(torch.get_autocast_dtype(OWN)) if floats else each

        def called(*args: Any, **kwargs: Any) -> Any:
            with torch._C._ExcludeDispatchKeyGuard(below):
                return op(*tree_map(lower, args), **kwargs)

        return called

    for name in ("conv2d", "conv_transpose2d.input", "linear", "matmul", "mm", "addmm", "bmm", "baddbmm"):
        packet, _, overload = name.partition(".")
        _libraries[0].impl(name, lowered(getattr(getattr(aten, packet), overload or "default")), "AutocastPrivateUse1")
    plain = torch.autocast.__init__
    torch.autocast.__init__ = lambda self, device_type, *args, **kwargs: plain(
        self, OWN if device_type == "cuda" else device_type, *args, **kwargs)  # fmt: skip


def reset() -> None:
    for counter in (counts, names, where):
        counter.clear()


@contextlib.contextmanager
def memory(images: int) -> Any:
    """Layers take no more images than these."""
    _most[0] = images
    try:
        yield
    finally:
        _most[0] = None


def install(*code: str) -> None:
    """`code`: parts of the paths of the program's own files, for `where`."""
    _roots[:] = code
    registration._setup_privateuseone_for_python_backend(OWN, backend_module=_Backend(), hook=_Hook())
    torch.autograd.set_multithreading_enabled(False)  # the mode is this thread's
    torch.__future__.set_swap_module_params_on_conversion(True)  # Module.to keeps its parameters' identity, as on CUDA
    default, cuda = _Generator("cpu"), torch.cuda
    answers = {"is_available": True, "device_count": 1, "current_device": 0, "is_initialized": True, "set_device": None,
               "_is_in_bad_fork": False, "is_bf16_supported": True, "get_device_name": "simulated", "empty_cache": None,
               "get_device_capability": (9, 0), "_lazy_init": None}  # fmt: skip
    for name, answer in answers.items():
        setattr(cuda, name, lambda *_, answer=answer, **__: answer)
    cuda.synchronize = lambda device=None: _note("syncs", "synchronize")
    for module in (cuda, cuda.random):
        module.manual_seed = module.manual_seed_all = lambda seed: default.manual_seed(seed) and None
        module.get_rng_state = lambda device=None: default.get_state()
        module.set_rng_state = lambda state, device=None: default.set_state(state) and None
    torch.Generator, torch.Tensor.to = Generator, _sent
    torch.Tensor.cuda = lambda tensor, *_, **__: tensor.to(CUDA)
    torch.tensor, torch.as_tensor = _moved(torch.tensor), _moved(torch.as_tensor)
    _cast()
    _Mode().__enter__()
