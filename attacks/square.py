"""Square, from its packaged form in `pyautoattack`."""

import logging

from pyautoattack import AutoAttack, checks

from robench.search import Search, sees
from robench.search.tiles import square_needs

logging.getLogger("auto-attack").addHandler(logging.NullHandler())  # what it remarks is not ours to print

NORMS = {"linf": "Linf", "l2": "L2"}


@sees("scores", asks=lambda settings, task: square_needs(task), stops=True, batch_dependent=True, unsaturated=True)
def square(search: Search) -> None:
    """Random search with square-shaped changes (Andriushchenko et al. 2020), 5,000 queries, as AutoAttack runs it."""
    with search.as_module() as model:
        run = AutoAttack(
            model,
            attacks=["square"],
            norm=NORMS[search.threat.norm],
            eps=search.eps,
            seed=search.draws.seed + search.draws.restart,
            version="custom",
            device=search.x.device,
        )
        x_adv, _ = run.run_standard_evaluation(search.x, search.y, batch_size=len(search.x))
        checks.funcs.update(dict.fromkeys(checks.funcs, 0))  # it counts calls in a global
    search.offer(x_adv)
