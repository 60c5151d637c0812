"""What kind of data a path leads to."""

from pathlib import Path

from robench.utils.errors import UserError

FILES = {
    ".npz": "npz",
    ".npy": "npy",
    ".pt": "pt",
    ".pth": "pt",
    ".safetensors": "safetensors",
    ".parquet": "parquet",
    ".arrow": "arrow",
}
"""By the ending of a file."""


def kind_of(path: Path) -> str:
    """The kind of a file by its ending, and of a folder by those of the files in it."""
    if not path.exists():
        raise UserError(f"there is no file or folder {path}")
    if path.is_file():
        if path.suffix not in FILES:
            raise UserError(f"expected a file of data, {', '.join(FILES)}, got {path}")
        return FILES[path.suffix]
    endings = {file.suffix.lower() for file in path.rglob("*")}
    found = [kind for kind, of_kind in _in_folders().items() if endings & of_kind]
    if len(found) > 1:
        raise UserError(f"{path} may be {' or '.join(f'{kind}:{path}' for kind in found)}; give that word")
    if not found:
        raise UserError(f"expected a folder of images or of files .parquet, .arrow or .npy, got {path}")
    return found[0]


def _in_folders() -> dict[str, set[str]]:
    """The endings of the files of which a folder of each kind is full."""
    from torchvision.datasets.folder import IMG_EXTENSIONS

    return {"parquet": {".parquet"}, "arrow": {".arrow"}, "npy": {".npy"}, "imagefolder": {*IMG_EXTENSIONS}}
