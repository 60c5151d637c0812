"""The same function of the image, with less to compute: batch norm folded into the convolution before it, and ReLU
after the pooling that followed it."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

Pairs = tuple[tuple[str, str], ...]
"""Names of a convolution and of the batch norm that takes what it gives."""


@torch.no_grad()
def foldable(model: nn.Module, x: Tensor) -> Pairs:
    """The pairs of a model in evaluation mode that a pass of x [B, ...] shows. That nothing else takes what such a
    convolution gives is not seen here: compare the logits."""
    given: list[tuple[str, Tensor]] = []
    pairs: list[tuple[str, str]] = []

    def convolved(name: str) -> Any:
        return lambda module, inputs, output: given.append((name, output))

    def normalised(name: str) -> Any:
        return lambda module, inputs: pairs.extend((before, name) for before, out in given if out is inputs[0])

    with _hooks() as hooks:
        for name, module in model.named_modules():
            if type(module) is nn.Conv2d and "weight" in module._parameters:  # and nothing recomputes it
                hooks.append(module.register_forward_hook(convolved(name)))
            elif type(module) is nn.BatchNorm2d and module.track_running_stats:
                hooks.append(module.register_forward_pre_hook(normalised(name)))
        model(x.clone())
    calls = [name for name, _ in given]
    return tuple(pair for pair in pairs if calls.count(pair[0]) == 1 == sum(pair[1] == norm for _, norm in pairs))


def fold(model: nn.Module, pairs: Iterable[tuple[str, str]]) -> None:
    """Moves each norm's scale and shift into its convolution, in place."""
    for before, name in pairs:
        convolution, norm = model.get_submodule(before), model.get_submodule(name)
        assert isinstance(convolution, nn.Conv2d)
        assert isinstance(norm, nn.BatchNorm2d)
        assert norm.running_mean is not None
        assert norm.running_var is not None
        convolution.weight, convolution.bias = fuse_conv_bn_weights(
            convolution.weight,
            convolution.bias,
            norm.running_mean,
            norm.running_var,
            norm.eps,
            norm.weight,
            norm.bias,
        )
        parent, _, leaf = name.rpartition(".")
        setattr(model.get_submodule(parent), leaf, nn.Identity())
    model.requires_grad_(False)


def pool_first(model: nn.Module) -> None:
    """Within each `nn.Sequential` has max pooling done before a ReLU, of which it leaves less: the logits and the
    gradients are the same to the bit."""
    for chain in model.modules():
        if type(chain) is nn.Sequential:
            for at in range(len(chain) - 1):
                relu, pool = chain[at], chain[at + 1]
                if (
                    type(relu) is nn.ReLU
                    and not relu.inplace
                    and type(pool) is nn.MaxPool2d
                    and not pool.return_indices
                ):
                    chain[at], chain[at + 1] = pool, relu


@contextmanager
def _hooks() -> Iterator[list[Any]]:
    """A list of hooks, which are removed at the end."""
    hooks: list[Any] = []
    try:
        yield hooks
    finally:
        for hook in hooks:
            hook.remove()
