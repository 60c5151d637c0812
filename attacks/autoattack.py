"""AutoAttack, from its packaged form `pyautoattack`."""

import logging
from typing import Literal

from pyautoattack import AutoAttack, checks

from robench.search import Search, sees
from robench.search.declaration import LeftOut, Needs, Settings, Task
from robench.search.tiles import square_needs

logging.getLogger("auto-attack").addHandler(logging.NullHandler())  # what it remarks is not ours to print

NORMS = {"linf": "Linf", "l2": "L2"}
VERSIONS = {"standard": ("apgd-ce", "apgd-t", "fab-t", "square"), "rand": ("apgd-ce", "apgd-dlr")}


def _parts(settings: Settings, task: Task) -> dict[str, Needs]:
    """What it consists of. DLR divides by a difference to the third logit, its targeted form to the fourth as well."""
    version = settings["version"]
    if version == "auto":
        version = "rand" if task.stochastic else "standard"
    names = VERSIONS[version] if settings["component"] == "all" else [settings["component"]]
    return {
        name: square_needs(task)
        if name == "square"
        else Needs("gradients", classes={"apgd-dlr": 3, "apgd-t": 4}.get(name, 2), unsaturated=name != "apgd-ce")
        for name in names
    }


@sees("gradients", parts=_parts, stops=True, batch_dependent=True)
def autoattack(
    search: Search,
    *,
    left_out: LeftOut,
    version: Literal["auto", "standard", "rand"] = "auto",
    component: Literal["all", "apgd-ce", "apgd-t", "fab-t"] = "all",
) -> None:
    """The ensemble of Croce & Hein 2020, or one of its white-box components with the settings it has there.

    `standard`: APGD-CE, targeted APGD on the DLR loss, targeted FAB, Square. `rand`: APGD-CE and APGD-DLR with 20 draws
    a step. `auto` is `rand` for a stochastic model. The library judges its own successes and drops those examples; what
    it returns is judged again. Parts that the model or its images do not give enough for are left out.
    """
    targets = search.classes - 1
    if version == "auto":
        version = "rand" if search.stochastic else "standard"
    with search.as_module(expected=version != "rand") as model:
        run = AutoAttack(
            model,
            norm=NORMS[search.threat.norm],
            eps=search.eps,
            seed=search.draws.seed + search.draws.restart,
            version=version,
            device=search.x.device,
        )
        run.apgd_targeted.n_target_classes = min(run.apgd_targeted.n_target_classes, targets)
        run.fab.n_target_classes = min(run.fab.n_target_classes, targets)
        names = run.attacks_to_run if component == "all" else [component]
        run.attacks_to_run = [name for name in names if name not in left_out]
        x_adv, _ = run.run_standard_evaluation(search.x, search.y, batch_size=len(search.x))
        checks.funcs.update(dict.fromkeys(checks.funcs, 0))  # it counts calls in a global
    search.offer(x_adv)
