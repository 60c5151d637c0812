"""Tensors, arrays and generators of random numbers, as the parts of a hash."""

import hashlib
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from robench.models.checkpoint import weights_fingerprint
from robench.models.description.attributes import UNSEEN, attributes
from robench.models.description.walk import Walk


def can_be_weights(tensor: Tensor) -> bool:
    """Whether its values lie in memory as they are, so that `weights_fingerprint` can read them."""
    plain = tensor.layout is torch.strided and not (tensor.is_quantized or tensor.is_meta)
    return plain and not (tensor.is_conj() or tensor.is_neg() or is_lazy(tensor))


def tensor_parts(tensor: Tensor, walk: Walk) -> Iterator[str]:
    yield from ("tensor", str(tensor.dtype), str(tuple(tensor.shape)))
    if not walk.is_apart(tensor):
        try:
            yield from ("values", _values(tensor))
        except (RuntimeError, NotImplementedError, TypeError, ValueError):
            yield walk.hide(tensor, f"({tensor.layout}, {tensor.device}) cannot be read")
    if type(tensor) not in (Tensor, nn.Parameter, nn.Buffer):
        yield walk.of(type(tensor))
    for name, attribute in sorted(vars(tensor).items()):
        if name not in UNSEEN:
            yield from (name, walk.of(attribute))


def array_parts(array: np.ndarray | np.generic, walk: Walk) -> Iterator[str]:
    yield from ("array", str(array.dtype.descr), str(array.shape))
    if array.dtype.hasobject:
        yield walk.of(array.tolist())
    else:
        yield hashlib.sha256(array.tobytes()).hexdigest()
    if type(array).__module__ != "numpy":
        yield walk.of(type(array))
        yield from (walk.of(each) for item in attributes(array) for each in item)


def generator_parts(generator: torch.Generator, walk: Walk) -> Iterator[str]:
    yield from ("generator", str(generator.device), weights_fingerprint({"": generator.get_state()}))


def _values(tensor: Tensor) -> str:
    tensor = tensor.detach()
    if tensor.is_quantized:
        return weights_fingerprint({"whole": tensor.int_repr(), "real": tensor.dequantize()})
    if tensor.layout is not torch.strided:
        tensor = tensor.to_sparse(layout=torch.sparse_coo).coalesce()
        return weights_fingerprint({"indices": tensor.indices(), "values": tensor.values()})
    return weights_fingerprint({"": tensor.resolve_conj().resolve_neg()})
