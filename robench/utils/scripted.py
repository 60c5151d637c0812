"""A TorchScript module, which keeps its code and values where Python does not see them, as text and bytes that are the
same in every process."""

import hashlib
import io
import pickletools
import re
import warnings
import zipfile

import torch


def script_of(module: torch.jit.ScriptModule) -> str:
    """A hash of its code, constants and attributes as they would be saved, without the numbers that torch puts into the
    names of types, which depend on what else was compiled."""
    stream = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # TorchScript is on its way out, which the caller cannot help
        torch.jit.save(module, stream)
    digest = hashlib.sha256()
    with zipfile.ZipFile(stream) as archive:
        for name in sorted(archive.namelist()):
            _, _, inner = name.partition("/")
            content = archive.read(name)
            if inner.endswith(".pkl"):
                content = _told(content).encode()
            elif inner.endswith(".py"):
                content = _MANGLED.sub("", content.decode()).encode()
            if not inner.endswith(".debug_pkl") and inner not in ("version", ".data/serialization_id", "byteorder"):
                digest.update(_MANGLED.sub("", inner).encode() + b"\0" + content + b"\0")
    return digest.hexdigest()


_MANGLED = re.compile(r"___torch_mangle_\d+[./]")


def _told(pickled: bytes) -> str:
    """The instructions of a pickle; none is followed."""
    return _MANGLED.sub("", "\n".join(f"{code.name} {given!r}" for code, given, _ in pickletools.genops(pickled)))
