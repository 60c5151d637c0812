"""What Square of `pyautoattack` asks of images in l2."""

from robench.search.declaration import Needs, Task


def square_needs(task: Task) -> Needs:
    """In l2 it starts with tiles of a fifth of the height, laid side by side from a margin on; where one juts out of
    the image the library ends in an error. So it does on some square images too (12x12, 14x14, 24x24)."""
    height, width = task.shape[-2:]
    side = height // 5
    margin = (height - 5 * side) // 2
    fit = side == 1 or (side and all(margin + length // side * side <= length for length in (height, width)))
    if task.norm == "linf" or fit:
        return Needs("scores", unsaturated=True)
    return Needs("scores", unfit=f"its tiles of a fifth of the height (l2) do not fit into {height}x{width} pixels")
