"""What decides the answers of a model or a function, as one hash: all that it refers to, by value.

Followed are attributes, containers, arrays and tensors, the classes of objects and their bases, and of functions the
bytecode (of comments, docstrings and line numbers it knows nothing, and it is there where no file is), defaults, the
contents of closures, and whatever global names and attributes of modules the code mentions. An installed library is
its name and version, and robench itself the code that a class or function of it runs. No address, file name or order
of a set enters, so that the hash is the same in every process. What cannot be seen into, an open file or an object of
C without a way to its state, is named in `Description.hidden`.
"""

import dis
import enum
import hashlib
import logging
import os
import sys
import sysconfig
import threading
import types
import weakref
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from copyreg import dispatch_table
from dataclasses import dataclass
from functools import cache, partial
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path, PurePath
from typing import Any, TypeVar, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from robench.models.checkpoint import weights_fingerprint
from robench.utils.code import code_fingerprint
from robench.utils.scripted import script_of


@dataclass(frozen=True)
class Description:
    """`fingerprint`: of everything that was seen. `hidden`: what was not, each in a few words; where there is any, two
    things of one fingerprint may differ."""

    fingerprint: str
    hidden: tuple[str, ...] = ()


def describe(thing: Any, apart: Iterable[Tensor] = ()) -> Description:
    """The description of a model, a function or any other object; the values of the tensors `apart` do not enter."""
    walk = _Walk(apart)
    with _deep():
        digest = walk.of(thing)
    if isinstance(thing, nn.Module):
        digest = _digest(digest, *(walk.of(list(hooks.values())) for hooks in _hooks_of_all()))
    return Description(digest[:16], tuple(dict.fromkeys(walk.hidden)))


def can_be_weights(tensor: Tensor) -> bool:
    """Whether its values lie in memory as they are, so that `weights_fingerprint` can read them."""
    plain = tensor.layout is torch.strided and not (tensor.is_quantized or tensor.is_meta)
    return plain and not (tensor.is_conj() or tensor.is_neg() or is_lazy(tensor))


Function = TypeVar("Function", bound=Callable[..., Any])


def decides_nothing(function: Function) -> Function:
    """Declares of a hook of robench's own that it changes nothing of what it watches."""
    function.decides_nothing = True  # type: ignore[attr-defined]
    return function


@contextmanager
def _deep() -> Iterator[None]:
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(max(before, 10_000))
    try:
        yield
    finally:
        sys.setrecursionlimit(before)


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _hooks_of_all() -> Iterator[Mapping[int, Any]]:
    """Those registered for every module there is."""
    module: Any = nn.modules.module
    for name in ("forward_pre", "forward", "backward_pre", "backward"):
        yield getattr(module, f"_global_{name}_hooks")


ATOMS = (bool, int, float, complex, str, bytes, types.NoneType, types.EllipsisType, types.NotImplementedType, range)
REPRESENTED = (torch.dtype, torch.device, torch.layout, torch.memory_format, np.dtype)
"""Types whose `repr` is all that there is."""

IDLE = (logging.Logger, logging.LoggerAdapter, type(threading.Lock()), type(threading.RLock()))
"""Types that decide no number."""

UNSEEN = {
    *("__name__", "__file__", "__builtins__", "__spec__", "__loader__", "__package__", "__cached__", "__doc__"),
    *("__module__", "__qualname__", "__annotations__", "__annotate__", "__annotate_func__", "__dict__", "__weakref__"),
    *("__slots__", "__firstlineno__", "__static_attributes__", "__annotations_cache__", "__wrapped__"),
    *("__abstractmethods__", "_abc_impl", "__dataclass_fields__", "__dataclass_params__", "__type_params__"),
    *("_autograd_function_id", "_backward_cls", "_compiled_autograd_backward_state"),
}
"""Names of what says where something is from, or repeats what is seen elsewhere."""

UNSEEN_OF_MODULES = {
    *("training", "_parameters", "_buffers", "_non_persistent_buffers_set", "_modules", "_is_full_backward_hook"),
    *("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks"),
    *("_forward_hooks_with_kwargs", "_forward_hooks_always_called", "_forward_pre_hooks_with_kwargs"),
    *("_state_dict_hooks", "_state_dict_pre_hooks", "_load_state_dict_pre_hooks", "_load_state_dict_post_hooks"),
}
"""Of an nn.Module: the mode, which is set before it is asked, what concerns state dicts, and what is seen apart."""

UNSEEN_OF_GRAPHS = {"_graph", "_code", "meta", "_tracer_cls", "_tracer_extras", "_erased_node_hooks"}
"""Of a torch.fx.GraphModule, whose class has its code."""


class _Walk:
    """One walk through everything that a thing refers to; each object is visited once."""

    def __init__(self, apart: Iterable[Tensor]) -> None:
        self.hidden: list[str] = []
        self._apart = {id(tensor) for tensor in apart}
        self._known: dict[int, str] = {}
        self._within: dict[int, int] = {}
        """the objects that this one is part of, by their depth"""
        self._kept: list[Any] = []
        """so that no other object gets the id of one that was seen"""

    def of(self, value: Any) -> str:
        """The hash of a value."""
        if type(value) is str and value.startswith(os.sep):
            return _digest("str", _place(value))
        if type(value) in ATOMS:
            return _digest(type(value).__name__, repr(value))
        key = id(value)
        if key in self._known:
            return self._known[key]
        if key in self._within:
            return _digest("again", str(len(self._within) - self._within[key]))
        self._kept.append(value)
        self._within[key] = len(self._within)
        try:
            digest = _digest(*self._parts(value))
        except RecursionError:
            digest = self._hide(value, "goes too deep")
        except Exception as error:  # whatever the attributes of a strange object do
            digest = self._hide(value, f"cannot be described ({type(error).__name__})")
        finally:
            del self._within[key]
        self._known[key] = digest
        return digest

    def _parts(self, value: Any) -> Iterator[str]:
        if isinstance(value, IDLE):
            yield "idle"
        elif isinstance(value, Tensor):
            yield from self._tensor(value)
        elif isinstance(value, np.ndarray | np.generic):
            yield from self._array(value)
        elif isinstance(value, torch.Generator):
            yield from ("generator", str(value.device), weights_fingerprint({"": value.get_state()}))
        elif isinstance(value, PurePath):
            yield from ("path", _place(str(value)))
        elif isinstance(value, REPRESENTED):
            yield from (type(value).__name__, str(value))
        elif isinstance(value, type):
            yield from self._class(value)
        elif isinstance(value, types.ModuleType):
            yield from self._whole_module(value)
        elif isinstance(value, types.CodeType):
            yield from ("code", *(self.of(part) for part in _code(value)))
        elif isinstance(value, types.FunctionType):
            yield from self._function(value)
        elif isinstance(value, types.MethodType):
            yield from ("method", self.of(value.__func__), self.of(value.__self__))
        elif isinstance(value, partial):
            yield from ("partial", *map(self.of, (value.func, value.args, dict(sorted(value.keywords.items())))))
        elif isinstance(value, staticmethod | classmethod):
            yield from (type(value).__name__, self.of(value.__func__))
        elif isinstance(value, property):
            yield from ("property", *map(self.of, (value.fget, value.fset, value.fdel)))
        elif isinstance(value, types.CellType):
            yield self.of(value.cell_contents) if _is_full(value) else "empty"
        elif isinstance(value, weakref.ref):
            yield from ("reference", self.of(value()))
        elif isinstance(value, types.MappingProxyType):
            yield self.of(dict(value))
        elif isinstance(value, bytearray | memoryview):
            yield from ("bytes", self.of(bytes(value)))
        elif isinstance(value, _OF_C):
            yield from self._of_c(value)
        elif isinstance(value, enum.Enum):
            yield from ("member", self.of(type(value)), str(value.name), self.of(value.value))
        elif isinstance(value, torch.jit.ScriptModule):
            yield from ("script", script_of(value))
        elif isinstance(value, nn.Module):
            yield from self._network(value)
        else:
            yield from self._object(value)

    # Objects

    def _object(self, value: Any) -> Iterator[str]:
        """Its class, what it contains, its attributes; of one that C keeps, what it gives to be pickled."""
        kind = type(value)
        if str(kind.__module__).startswith("torch._ops"):
            yield from ("operator", str(value))
            return
        if (original := _original(value)) is not None:  # compiled by torch, numba or functools.lru_cache
            yield from ("compiled", self.of(original))
            return
        yield from ("object", self.of(kind))
        contained = self._content(value)
        yield from contained
        if not contained and _keeps_more_than_attributes(kind):
            yield from self._pickled(value)
            return
        for name, attribute in _attributes(value):
            if name not in UNSEEN:
                yield from (name, self.of(attribute))

    def _content(self, value: Any) -> list[str]:
        """What a container holds; a set in no order, each of its members seen as if it were the first."""
        if isinstance(value, dict):
            default = value.default_factory if isinstance(value, defaultdict) else None
            return ["items", self.of(default), *(self.of(each) for item in dict.items(value) for each in item)]
        if isinstance(value, list):
            return ["sequence", *map(self.of, list.__iter__(value))]
        if isinstance(value, tuple):
            return ["sequence", *map(self.of, tuple.__iter__(value))]
        if isinstance(value, set | frozenset):
            return ["set", *sorted(self._afresh(member) for member in value)]
        if isinstance(value, ATOMS):  # of a class of their own
            base = next(base for base in type(value).__mro__ if base in ATOMS)
            return [base.__name__, str(cast(Any, base).__repr__(value))]
        return []

    def _afresh(self, value: Any) -> str:
        if type(value) in ATOMS:
            return self.of(value)
        known = dict(self._known)
        try:
            return self.of(value)
        finally:
            self._known = known

    def _pickled(self, value: Any) -> Iterator[str]:
        try:
            reduce = dispatch_table.get(type(value))
            reduced = reduce(value) if reduce else value.__reduce_ex__(4)
        except Exception:  # of any kind, from code of any library
            yield self._hide(value, "keeps a state that cannot be read")
            return
        if isinstance(reduced, str):
            yield reduced
            return
        rebuild, arguments, *rest = reduced
        state, *more = [*rest, None, None, None][:3]
        yield from (self.of(rebuild), self.of(arguments), self.of(state))
        yield from (self.of(list(items)) for items in more if items is not None)

    def _hide(self, value: Any, why: str) -> str:
        kind = type(value)
        self.hidden.append(f"{_called(value) or f'an object of {kind.__module__}.{kind.__qualname__}'} {why}")
        return "hidden"

    # Networks and arrays

    def _network(self, module: nn.Module) -> Iterator[str]:
        inner = module._modules.get("_orig_mod")
        if isinstance(inner, nn.Module) and type(module).__module__.startswith("torch._dynamo"):
            yield self.of(inner)
            return
        yield from ("network", self.of(type(module)))
        for kind in ("_parameters", "_buffers", "_modules"):
            for name, part in getattr(module, kind).items():
                yield from (kind, name, self.of(part))
        for kind in ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks"):
            flags = [getattr(module, f"{kind}_{flag}", {}) for flag in ("with_kwargs", "always_called")]
            for number, hook in getattr(module, kind, {}).items():
                if not _decides_nothing(hook):
                    yield from (kind, self.of(hook), *(str(bool(flag.get(number))) for flag in flags))
        yield module.extra_repr()
        unseen = UNSEEN_OF_MODULES | UNSEEN | (UNSEEN_OF_GRAPHS if isinstance(module, torch.fx.GraphModule) else set())
        for name, attribute in _attributes(module):
            if name not in unseen:
                yield from (name, self.of(attribute))

    def _tensor(self, tensor: Tensor) -> Iterator[str]:
        yield from ("tensor", str(tensor.dtype), str(tuple(tensor.shape)))
        if id(tensor) not in self._apart:
            try:
                yield from ("values", _values(tensor))
            except (RuntimeError, NotImplementedError, TypeError, ValueError):
                yield self._hide(tensor, f"({tensor.layout}, {tensor.device}) cannot be read")
        if type(tensor) not in (Tensor, nn.Parameter, nn.Buffer):
            yield self.of(type(tensor))
        for name, attribute in sorted(vars(tensor).items()):
            if name not in UNSEEN:
                yield from (name, self.of(attribute))

    def _array(self, array: np.ndarray | np.generic) -> Iterator[str]:
        yield from ("array", str(array.dtype.descr), str(array.shape))
        if array.dtype.hasobject:
            yield self.of(array.tolist())
        else:
            yield hashlib.sha256(array.tobytes()).hexdigest()
        if type(array).__module__ != "numpy":
            yield self.of(type(array))
            yield from (self.of(each) for item in _attributes(array) for each in item)

    # Code

    def _function(self, function: types.FunctionType) -> Iterator[str]:
        code, module = function.__code__, str(function.__globals__.get("__name__", ""))
        home = _home(module)  # `__module__` is what a decorator says
        if home and _is_found(function, module):
            yield from self._named(function, module, home)
            return
        yield from ("function", self.of(code), self.of(function.__defaults__), self.of(function.__kwdefaults__))
        for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
            yield from (name, self.of(cell))
        if home:  # made by a library: what it was made of is in its closure
            yield _code_of(home, module)
        else:
            yield from self._mentioned(code, function.__globals__)
        for name, attribute in sorted(vars(function).items()):
            if name not in UNSEEN:
                yield from (name, self.of(attribute))

    def _mentioned(self, code: types.CodeType, namespace: Mapping[str, Any]) -> Iterator[str]:
        """The things that a code object finds by a global name, or as an attribute of a module that it names."""
        for names in sorted(_chains(code)):
            first, *more = names
            if first in UNSEEN:
                continue
            if first not in namespace:
                yield from (first, "builtin" if _is_builtin(first) else "absent")
                continue
            thing = namespace[first]
            while more and type(thing) is types.ModuleType:
                thing = _attribute(thing, more.pop(0))
            yield from (".".join(names), self.of(thing))
        for name, level, wanted in sorted(_imports(code)):
            for thing in _imported(name, level, wanted, str(namespace.get("__package__") or "")):
                yield from (name, self.of(thing))

    def _class(self, kind: type) -> Iterator[str]:
        module = str(kind.__module__)
        home = _home(module)
        if home and _is_found(kind, module):
            yield from self._named(kind, module, home)
            return
        yield from ("class", kind.__name__, *map(self.of, kind.__bases__))
        if type(kind) is not type:
            yield self.of(type(kind))
        if issubclass(kind, enum.Enum):
            yield from (each for member in kind.__members__.values() for each in (member.name, self.of(member.value)))
        for name, attribute in sorted(vars(kind).items()):
            is_slot = isinstance(attribute, types.MemberDescriptorType | types.GetSetDescriptorType)
            of_enum = issubclass(kind, enum.Enum) and (name.startswith("_") or name in kind.__members__)
            if name not in UNSEEN and not is_slot and not (of_enum and not callable(attribute)):
                yield from (name, self.of(attribute))

    def _named(self, thing: Any, module: str, home: "_Home") -> Iterator[str]:
        yield from ("of a library", thing.__qualname__, _code_of(home, module), "" if home.own else module)

    def _of_c(self, value: Any) -> Iterator[str]:
        """A function, a method or a descriptor that C defines."""
        bound = getattr(value, "__self__", None)
        module = str(getattr(value, "__module__", None) or "")
        yield from ("of C", module, str(getattr(value, "__qualname__", value.__name__)))
        if isinstance(bound, type) and _home(bound.__module__):
            yield bound.__qualname__
        elif bound is not None and not isinstance(bound, types.ModuleType):
            yield self.of(bound)
        owner = getattr(value, "__objclass__", None)
        if owner is not None:
            yield self.of(owner)
        home = _home(module)
        if home:
            yield home.word
        elif module and (file := getattr(sys.modules.get(module), "__file__", None)):
            yield hashlib.sha256(Path(file).read_bytes()).hexdigest()

    def _whole_module(self, module: types.ModuleType) -> Iterator[str]:
        home = _home(module.__name__)
        if home:
            yield from ("library", home.word, module.__name__)
            return
        yield "module"
        for name, value in sorted(vars(module).items()):
            if name not in UNSEEN:
                yield from (name, self.of(value))


_OF_C = (
    types.BuiltinFunctionType,
    types.MethodWrapperType,
    types.WrapperDescriptorType,
    types.MethodDescriptorType,
    types.ClassMethodDescriptorType,
    types.GetSetDescriptorType,
    types.MemberDescriptorType,
)


# Where something is from


@dataclass(frozen=True)
class _Home:
    """An installed library with its version, or robench."""

    word: str
    own: bool = False


def _code_of(home: _Home, module: str) -> str:
    """The library's version, or of robench the code that the module runs."""
    file = getattr(sys.modules.get(module), "__file__", None)
    return code_fingerprint(Path(file).resolve()) if home.own and file else home.word


@cache
def _home(name: str) -> _Home | None:
    """Of a module by its name; None for the user's own."""
    top = name.partition(".")[0]
    if top == "robench":
        return _Home("robench", own=True)
    if name in sys.builtin_module_names:
        return _Home("python")
    file = getattr(sys.modules.get(name) or sys.modules.get(top), "__file__", None) or _origin(top)
    if file in ("built-in", "frozen"):
        return _Home("python")
    if file is None:
        return None
    path = Path(file).resolve()
    if {"site-packages", "dist-packages"} & set(path.parts):
        return _Home(f"{top} {_version(top)}".strip())
    return _Home("python") if path.is_relative_to(Path(sysconfig.get_path("stdlib")).resolve()) else None


def _origin(name: str) -> str | None:
    with suppress(ImportError, ValueError, AttributeError):
        spec = find_spec(name)
        return spec.origin if spec else None
    return None


def _version(top: str) -> str:
    """Of a library, but for those whose versions a cell's key holds for itself."""
    if top in ("torch", "numpy"):
        return ""
    try:
        return version(top)
    except PackageNotFoundError:
        return str(getattr(sys.modules.get(top), "__version__", ""))


def _is_found(thing: Any, module: str) -> bool:
    """Whether it is what the module has under its name: else it was made as the program ran, perhaps of the user's."""
    found: Any = sys.modules.get(module)
    for name in thing.__qualname__.split("."):
        found = vars(found).get(name) if hasattr(found, "__dict__") else None
    return found is thing or getattr(found, "__func__", None) is thing


def _called(value: Any) -> str | None:
    name = getattr(value, "__qualname__", None)
    return f"{getattr(value, '__module__', '')}.{name}" if isinstance(name, str) else None


# What code mentions


FLAGS = 0x04 | 0x08 | 0x20 | 0x80 | 0x200
"""Of code: *args, **kwargs, a generator, a coroutine, both."""


def _code(code: types.CodeType) -> list[Any]:
    """The instructions of a code object with what each takes, jumps as the distance in instructions."""
    given: list[dis.Instruction] = []
    place: dict[int, int] = {}
    for each in dis.get_instructions(code):
        place[each.offset] = len(given)  # of what is left out, the next one's
        if each.opname == "STORE_NAME" and each.argval == "__doc__":
            given.pop()
        elif each.opname not in _MOOT:
            given.append(each)
    found: list[Any] = [code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags & FLAGS]
    found += code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    jumps = {*dis.hasjrel, *dis.hasjabs}
    for each in given:
        is_jump = each.opcode in jumps and each.argval in place
        found += [each.opname, place[each.argval] - place[each.offset] if is_jump else each.argval]
    end = len(given)
    for entry in dis.Bytecode(code).exception_entries:  # type: ignore[attr-defined]
        found += [place.get(offset, end) for offset in (entry.start, entry.end, entry.target)]
    return found


def _nested(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _nested(constant)


def _chains(code: types.CodeType) -> set[tuple[str, ...]]:
    """The global names that it loads, each with the attributes taken of it at once."""
    found = set()
    for part in _nested(code):
        chain: tuple[str, ...] = ()
        for each in [*dis.get_instructions(part), None]:
            if each and each.opname in _MOOT:
                continue
            if each and chain and each.opname in ("LOAD_ATTR", "LOAD_METHOD"):
                chain = (*chain, str(each.argval))
                continue
            if chain:
                found.add(chain)
            chain = (str(each.argval),) if each and each.opname in ("LOAD_GLOBAL", "LOAD_NAME") else ()
    return found


def _imports(code: types.CodeType) -> set[tuple[str, int, tuple[str, ...]]]:
    """What it imports when it is run: the module, the level, and the names that it takes of it; none where it takes
    the module as a whole."""
    found = set()
    for part in _nested(code):
        given = [each for each in dis.get_instructions(part) if each.opname not in _MOOT]
        for place, each in enumerate(given):
            if each.opname == "IMPORT_NAME":
                level, names = given[place - 2].argval, given[place - 1].argval
                stored = given[place + 1]
                if not names and stored.opname == "STORE_FAST":
                    names = _taken(given, stored.argval)
                found.add((str(each.argval), int(level or 0), tuple(names or ())))
    return found


def _taken(given: list[dis.Instruction], name: str) -> list[str]:
    """The attributes that are taken of a local name; none where it is used in another way."""
    uses = [after for each, after in pairwise(given) if each.opname.startswith("LOAD_FAST") and each.argval == name]
    attributes = [str(use.argval) for use in uses if use.opname in ("LOAD_ATTR", "LOAD_METHOD")]
    return sorted(set(attributes)) if len(attributes) == len(uses) else []


_MOOT = ("CACHE", "EXTENDED_ARG", "NOP", "RESUME", "PRECALL")
"""Instructions that mean nothing, or follow from others."""


def _imported(name: str, level: int, wanted: Iterable[str], package: str) -> Iterator[Any]:
    if level == 0 and _home(name.partition(".")[0]):
        yield name
        return
    try:
        module = import_module("." * level + name, package)
    except Exception:  # it would fail where it is run, too
        yield "absent"
        return
    yield from [_attribute(module, each) for each in wanted] or [module]


def _attribute(module: types.ModuleType, name: str) -> Any:
    """Of a module, without running what it may have to make attributes."""
    found = vars(module).get(name, _ABSENT)
    if found is _ABSENT:
        found = sys.modules.get(f"{module.__name__}.{name}", "absent")
    return found


_ABSENT = object()


def _is_builtin(name: str) -> bool:
    import builtins

    return hasattr(builtins, name)


# What objects hold


def _attributes(value: Any) -> list[tuple[str, Any]]:
    """Of an object, those in its slots too, in the order of their names; no code of its class is run."""
    found: dict[str, Any] = {}
    for kind in type(value).__mro__:
        for name, slot in vars(kind).items():
            if isinstance(slot, types.MemberDescriptorType) and name in _slots(kind):
                with suppress(AttributeError):  # it is empty
                    found.setdefault(name, slot.__get__(value, kind))
    with suppress(AttributeError):
        found |= object.__getattribute__(value, "__dict__")
    return sorted((str(name), attribute) for name, attribute in found.items()) if found else []


def _slots(kind: type) -> set[str]:
    written = vars(kind).get("__slots__", ())
    names = (written,) if isinstance(written, str) else written
    return {name if not name.startswith("__") else f"_{kind.__name__.lstrip('_')}{name}" for name in names} - UNSEEN


def _keeps_more_than_attributes(kind: type) -> bool:
    """Whether its objects are larger than their attributes and slots: then C keeps something in them."""
    slots = sum(len(_slots(base)) for base in kind.__mro__)
    pointers = slots + sum(getattr(kind, name) > 0 for name in ("__dictoffset__", "__weakrefoffset__"))
    return kind.__basicsize__ > object.__basicsize__ + pointers * tuple.__itemsize__ or kind.__itemsize__ > 0


def _original(value: Any) -> Any:
    """The function that was compiled or is cached, of what takes its place."""
    names = {"functools": "__wrapped__", "numba": "py_func", "torch": "_torchdynamo_orig_callable"}
    name = names.get(type(value).__module__.partition(".")[0])
    return getattr(value, name, None) if name else None


def _values(tensor: Tensor) -> str:
    tensor = tensor.detach()
    if tensor.is_quantized:
        return weights_fingerprint({"whole": tensor.int_repr(), "real": tensor.dequantize()})
    if tensor.layout is not torch.strided:
        tensor = tensor.to_sparse(layout=torch.sparse_coo).coalesce()
        return weights_fingerprint({"indices": tensor.indices(), "values": tensor.values()})
    return weights_fingerprint({"": tensor.resolve_conj().resolve_neg()})


def _place(path: str) -> str:
    """Of a path, the file that it leads to by content, wherever that lies; nothing of a folder that exists."""
    try:
        if os.path.isfile(path):
            return hashlib.sha256(Path(path).read_bytes()).hexdigest()
        return "folder" if os.path.isdir(path) else path
    except (OSError, ValueError):
        return path


def _is_full(cell: types.CellType) -> bool:
    try:
        cell.cell_contents  # noqa: B018
    except ValueError:
        return False
    return True


def _decides_nothing(hook: Any) -> bool:
    while isinstance(hook, partial):
        hook = hook.func
    return getattr(hook, "decides_nothing", False) and str(hook.__module__).startswith("robench.")
