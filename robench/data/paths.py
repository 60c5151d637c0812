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

IN_FOLDERS = ("parquet", "arrow", "npy")
"""Kinds of which a folder is full."""


def kind_of(path: Path) -> str:
    """The kind of a file by its ending, and of a folder by those of the files in it."""
    if not path.exists():
        raise UserError(f"there is no file or folder {path}")
    if path.is_file():
        if path.suffix not in FILES:
            raise UserError(f"expected a file of data, {', '.join(FILES)}, got {path}")
        return FILES[path.suffix]
    found = [kind for kind in IN_FOLDERS if next(path.glob(f"**/*.{kind}"), None)]
    if _has_images(path):
        found.append("imagefolder")
    if len(found) > 1:
        raise UserError(f"{path} may be {' or '.join(f'{kind}:{path}' for kind in found)}; give that word")
    if not found:
        raise UserError(f"expected a folder of images or of files .parquet, .arrow or .npy, got {path}")
    return found[0]


def _has_images(folder: Path) -> bool:
    from torchvision.datasets.folder import IMG_EXTENSIONS

    return any(file.suffix.lower() in IMG_EXTENSIONS for depth in ("*/*", "*/*/*") for file in folder.glob(depth))
