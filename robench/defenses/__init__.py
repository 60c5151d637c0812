"""The files of the folder `defenses/`, importable as `robench.defenses.NAME`.

In a checkout that folder lies beside the package. As a top-level package it would be shadowed by any researcher's own.
"""

from robench.utils.registry import folder

__path__ = [str(folder("defenses"))]
