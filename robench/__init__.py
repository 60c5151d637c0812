"""Train, attack, verify and rank adversarially robust image classifiers.

    robench.evaluate(model, suite="quick", dataset="digits", eps=0.2)
    robench.train("ald_trades")
    robench.attack("pgd-20")(model, x, y, eps="8/255")

Each command of the command line is a function here with the same words; see `robench.api`.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from robench.api import attack as attack
    from robench.api import bench as bench
    from robench.api import compare as compare
    from robench.api import evaluate as evaluate
    from robench.api import figure as figure
    from robench.api import leaderboard as leaderboard
    from robench.api import load_model as load_model
    from robench.api import reproduce as reproduce
    from robench.api import table as table
    from robench.api import train as train
    from robench.api import verify as verify

    __version__: str

__all__ = [
    *("attack", "bench", "compare", "evaluate", "figure", "leaderboard"),
    *("load_model", "reproduce", "table", "train", "verify"),
]


def __getattr__(name: str) -> Any:
    """Imports the API, and torch with it, when it is first used; `__version__` is that of the installed package."""
    import importlib

    if name == "__version__":
        return importlib.import_module("importlib.metadata").version("robench")
    if name in __all__:
        return getattr(importlib.import_module("robench.api"), name)
    raise AttributeError(f"module 'robench' has no attribute {name!r}")


def __dir__() -> list[str]:
    """What is in the package, the functions of the API among it, without importing them."""
    return sorted({*globals(), *__all__, "__version__"})
