"""Modules of torch and their hooks, as the parts of a hash."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, TypeVar

import torch
from torch import nn

from robench.models.description.attributes import UNSEEN, attributes
from robench.models.description.walk import Walk
from robench.utils.scripted import script_of

UNSEEN_OF_MODULES = {
    *("training", "_parameters", "_buffers", "_non_persistent_buffers_set", "_modules", "_is_full_backward_hook"),
    *("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks"),
    *("_forward_hooks_with_kwargs", "_forward_hooks_always_called", "_forward_pre_hooks_with_kwargs"),
    *("_state_dict_hooks", "_state_dict_pre_hooks", "_load_state_dict_pre_hooks", "_load_state_dict_post_hooks"),
}
"""Of an nn.Module: the mode, which is set before it is asked, what concerns state dicts, and what is seen apart."""

UNSEEN_OF_GRAPHS = {"_graph", "_code", "meta", "_tracer_cls", "_tracer_extras", "_erased_node_hooks"}
"""Of a torch.fx.GraphModule, whose class has its code."""

Function = TypeVar("Function", bound=Callable[..., Any])


def decides_nothing(function: Function) -> Function:
    """Declares of a hook of robench's own that it changes nothing of what it watches."""
    function.decides_nothing = True  # type: ignore[attr-defined]
    return function


def network_parts(module: nn.Module, walk: Walk) -> Iterator[str]:
    inner = module._modules.get("_orig_mod")
    if isinstance(inner, nn.Module) and type(module).__module__.startswith("torch._dynamo"):
        yield walk.of(inner)
        return
    yield from ("network", walk.of(type(module)))
    for kind in ("_parameters", "_buffers", "_modules"):
        for name, part in getattr(module, kind).items():
            yield from (kind, name, walk.of(part))
    yield from _hooks(module, walk)
    yield module.extra_repr()
    unseen = UNSEEN_OF_MODULES | UNSEEN | (UNSEEN_OF_GRAPHS if isinstance(module, torch.fx.GraphModule) else set())
    for name, attribute in attributes(module):
        if name not in unseen:
            yield from (name, walk.of(attribute))


def script_parts(module: torch.jit.ScriptModule, walk: Walk) -> Iterator[str]:
    yield from ("script", script_of(module))


def hooks_of_all() -> Iterator[Mapping[int, Any]]:
    """The hooks registered for every module there is."""
    module: Any = nn.modules.module
    for name in ("forward_pre", "forward", "backward_pre", "backward"):
        yield getattr(module, f"_global_{name}_hooks")


def _hooks(module: nn.Module, walk: Walk) -> Iterator[str]:
    for kind in ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks"):
        flags = [getattr(module, f"{kind}_{flag}", {}) for flag in ("with_kwargs", "always_called")]
        for number, hook in getattr(module, kind, {}).items():
            if not _decides_nothing(hook):
                yield from (kind, walk.of(hook), *(str(bool(flag.get(number))) for flag in flags))


def _decides_nothing(hook: Any) -> bool:
    while isinstance(hook, partial):
        hook = hook.func
    return getattr(hook, "decides_nothing", False) and str(hook.__module__).startswith("robench.")
