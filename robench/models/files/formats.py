"""What kind of file lies at a path, told by its first bytes and not by its name, and what to do with one of another."""

import zipfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from robench.utils.errors import UserError

Readable = Literal["torch", "safetensors", "npz", "torchscript"]
"""The kinds that can be read."""

HEAD = 1024
"""bytes that tell the kind"""

BOMB = 100
"""An archive that unpacks to so many times its size is none of weights: torch does not compress, and NumPy hardly
gains on weights."""

FACTORY = "load it in a function of yours that returns an nn.Module, and give that as FILE.py:FUNCTION"

LEGACY = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
"""How a file of torch before 1.6 begins: a pickled number."""


@dataclass(frozen=True)
class Signature:
    """A kind that cannot be read: how its files begin, what it is in words, and the remedy."""

    begins: tuple[bytes, ...]
    what: str
    remedy: str
    at: int = 0


UNPACK = "unpack it and give the file of weights in it"
DOWNLOAD = "the download saved what the server said in place of the file; fetch it again"

SIGNATURES = (
    Signature((b"\x89HDF\r\n\x1a\n",), "an HDF5 file, as Keras and TensorFlow save weights", f"in torch, {FACTORY}"),
    Signature((b"version https://git-lfs",), "a pointer of git-lfs and not the file itself", "run git lfs pull"),
    Signature((b"<!doctype html", b"<html", b"<?xml", b"<error"), "a web page", DOWNLOAD),
    Signature((b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd", b"7z\xbc\xaf", b"Rar!"), "an archive", UNPACK),
    Signature((b"ustar",), "a tar archive", UNPACK, at=257),
    Signature((b"TFL3",), "a TensorFlow Lite model", FACTORY, at=4),
    Signature((b"GGUF",), "a GGUF file of a language model", "give weights that torch saved"),
    Signature((b"\x93NUMPY",), "one array of NumPy without the names of weights", "save all by name with numpy.savez"),
    Signature((b"\x89PNG", b"\xff\xd8\xff", b"GIF8"), "an image", "give the file of the weights"),
    Signature((b"{", b"["), "JSON", "give the file of the weights that lies beside it"),
)

BY_NAME = {
    ".py": "Python code; name the function of it that returns the model, {path}:FUNCTION",
    ".ipynb": "a notebook; put the function that returns the model into a file, and give FILE.py:FUNCTION",
    ".onnx": f"an ONNX model; {FACTORY} (onnx2torch converts one)",
    ".msgpack": f"a file of JAX's weights in msgpack; {FACTORY}",
    ".pb": f"a TensorFlow model; {FACTORY}",
    ".index": f"a checkpoint of TensorFlow; {FACTORY}",
}
"""Kinds that the ending of a file's name tells."""


def kind_of(path: Path) -> Readable:
    """Raises UserError, one sentence on what the file is and what to do, for any kind that cannot be read."""
    head, size = _begin(path)
    if not head:
        raise UserError(f"{path} is an empty file; was its download cut?")
    if head.startswith(b"PK\x03\x04"):
        return _of_archive(path, size)
    if len(head) > 9 and head[8:9] == b"{" and int.from_bytes(head[:8], "little") < size:
        return "safetensors"
    if head.startswith(LEGACY):
        return "torch"
    _refuse_strange(path, head)
    if head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        raise UserError(
            f"{path} is a plain pickle, whose loading would run code; read it where you trust it, and save its weights "
            "with torch.save(state_dict, FILE)"
        )
    raise UserError(
        f"{path} is not a whole checkpoint (no kind of file that is known begins so); was its download cut?"
    )


def _begin(path: Path) -> tuple[bytes, int]:
    """The first bytes of a file, and its size."""
    try:
        if path.is_dir():
            raise UserError(f"{path} is a folder; give the file of weights in it{_files_in(path)}")
        if not path.exists():
            hint = "; robench fetches no models: download it, and give its path" if path.parts[0][-1:] == ":" else ""
            raise UserError(f"there is no checkpoint {path}{hint}")
        if not path.is_file():
            raise UserError(f"expected a file of weights, got {path}, which is none")
        with path.open("rb") as file:
            return file.read(HEAD), path.stat().st_size
    except (OSError, ValueError) as error:  # over-long names, no permission, a null byte
        raise UserError(f"{str(path)[:200]!r} cannot be read: {getattr(error, 'strerror', None) or error}") from None


def _files_in(folder: Path) -> str:
    endings = (".pt", ".pth", ".safetensors", ".bin", ".ckpt", ".tar", ".npz")
    found = sorted(each.name for each in folder.iterdir() if each.suffix in endings)
    return f": {', '.join(found[:4])}" if found else ""


def _of_archive(path: Path, size: int) -> Readable:
    """Of a zip archive, which torch's, NumPy's and Keras's files are too."""
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(member.file_size for member in archive.infolist())
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        raise UserError(f"{path} is not a whole checkpoint (its archive has no end); was its download cut?") from None
    if unpacked > BOMB * max(size, 2**20):
        raise UserError(f"{path} unpacks to {unpacked / size:.0f} times its size, which weights do not; it is not read")
    inner = [name.partition("/")[2] for name in names]
    if "constants.pkl" in inner and any(name.startswith("code/") for name in inner):
        return "torchscript"
    if any("exported_program" in name or name.startswith("models/") for name in (*names, *inner)):
        raise UserError(f"{path} is a program of torch.export; {FACTORY} (torch.export.load(FILE).module() gives it)")
    if "data.pkl" in inner:
        return "torch"
    if names and all(name.endswith(".npy") for name in names):
        return "npz"
    if "model.weights.h5" in names:
        raise UserError(f"{path} is a model of Keras; in torch, {FACTORY}")
    raise UserError(f"{path} is a zip archive; {UNPACK}{_weights_among(names)}")


def _weights_among(names: Sequence[str]) -> str:
    found = [name for name in names if name.endswith((".pt", ".pth", ".safetensors", ".bin", ".ckpt"))]
    return f": {', '.join(found[:4])}" if found else ""


def _refuse_strange(path: Path, head: bytes) -> None:
    if path.suffix in (".py", ".ipynb"):
        raise UserError(f"{path} is {BY_NAME[path.suffix].format(path=path)}")
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    for each in SIGNATURES:
        begin = head[each.at :] if each.at else head
        if begin.startswith(each.begins) or (not each.at and text.startswith(each.begins)):
            raise UserError(f"{path} is {each.what}; {each.remedy}")
    for tells, ending in ((_is_onnx, ".onnx"), (_is_msgpack, ".msgpack")):
        if tells(head):
            raise UserError(f"{path} is {BY_NAME[ending]}")
    if path.suffix in BY_NAME:
        raise UserError(f"{path} is {BY_NAME[path.suffix].format(path=path)}")


def _is_onnx(head: bytes) -> bool:
    """A protobuf whose first field is a small version, and whose second is one that a model has."""
    return head[:1] == b"\x08" and len(head) > 2 and head[1] < 32 and head[2] in b"\x12\x1a\x22\x28\x32\x3a\x42"


def _is_msgpack(head: bytes) -> bool:
    """A small map whose first key is a short text."""
    is_small_map = len(head) > 1 and 0x81 <= head[0] <= 0x8F and 0xA1 <= head[1] <= 0xBF
    text = head[2 : 2 + (head[1] & 0x1F)] if is_small_map else b""
    with suppress(UnicodeDecodeError):
        return bool(text.decode("ascii").isidentifier()) if text else False
    return False
