"""The files of the top-level folder `attacks/`, importable as `robench.attacks.NAME`.

A top-level package called `attacks` would be shadowed by any researcher's own folder of that name. In a checkout the
folder lies beside the package; in an installed wheel its files lie here.
"""

from pathlib import Path

_checkout = Path(__file__).resolve().parents[2] / "attacks"
if _checkout.is_dir() and not any(path.name != "__init__.py" for path in Path(__file__).parent.glob("*.py")):
    __path__ = [str(_checkout)]
