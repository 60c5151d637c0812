"""AutoAttack, from its packaged form `pyautoattack`."""

import logging
from typing import Literal

from pyautoattack import AutoAttack, checks

from robench.access import Settings, Sight, sees
from robench.search import Search

logging.getLogger("auto-attack").addHandler(logging.NullHandler())  # what it remarks is not ours to print

NORMS = {"linf": "Linf", "l2": "L2"}


SLOPES, ON_LOGITS = Sight("gradients"), Sight("gradients", unsaturated=True)
SQUARE = {"square": Sight("scores", unsaturated=True)}
STANDARD = {"apgd-ce": SLOPES, "apgd-t": ON_LOGITS, "fab-t": ON_LOGITS, **SQUARE}
RAND = {"apgd-ce": SLOPES, "apgd-dlr": ON_LOGITS}
NEEDS = {"apgd-dlr": 3, "apgd-t": 4}  # classes


def parts(settings: Settings, classes: int, stochastic: bool) -> dict[str, Sight]:
    random = settings["version"] == "rand" or (settings["version"] == "auto" and stochastic)
    able = {name: sight for name, sight in (RAND if random else STANDARD).items() if classes >= NEEDS.get(name, 2)}
    return able if settings["component"] == "all" else {settings["component"]: STANDARD[settings["component"]]}


@sees("gradients", stops=True, companions=True, parts=parts)
def autoattack(
    search: Search,
    *,
    version: Literal["auto", "standard", "rand"] = "auto",
    component: Literal["all", "apgd-ce", "apgd-t", "fab-t"] = "all",
) -> None:
    """The ensemble of Croce & Hein 2020, or one of its white-box components with the settings it has there.

    `standard`: APGD-CE, targeted APGD on the DLR loss, targeted FAB, Square. `rand`: APGD-CE and APGD-DLR with 20 draws
    a step. `auto` is `rand` for a stochastic model. The library judges its own successes and drops those examples; what
    it returns is judged again. DLR needs 3 classes and its targeted form 4: with fewer, what uses them is left out.
    """
    targets = search.classes - 1
    if version == "auto":
        version = "rand" if search.stochastic else "standard"
    with search.lend(expected=version != "rand") as model:
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
        if component != "all":
            run.attacks_to_run = [component]
        run.attacks_to_run = [name for name in run.attacks_to_run if search.classes >= NEEDS.get(name, 2)]
        if not run.attacks_to_run:
            raise ValueError(f"{component} needs {NEEDS[component]} classes, the model has {search.classes}")
        x_adv, _ = run.run_standard_evaluation(search.x, search.y, batch_size=len(search.x))
        checks.funcs.update(dict.fromkeys(checks.funcs, 0))  # it counts calls in a global
    search.offer(x_adv)
