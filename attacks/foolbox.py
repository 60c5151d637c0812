"""Any attack of foolbox, by its name there."""

import inspect
from collections.abc import Callable
from typing import Any

import foolbox as library
import torch
from foolbox import attacks, distances

from robench.search import Search, sees
from robench.search.declaration import family
from robench.utils.errors import UserError, unknown
from robench.utils.global_rng import reseed

NORMS = {"linf": distances.linf, "l2": distances.l2}
UNFIT = {
    attacks.LinfinityBrendelBethgeAttack: "it can loop for ever; bb runs it where it can be stopped",
    attacks.L2BrendelBethgeAttack: "it can loop for ever; bb runs it where it can be stopped",
    attacks.BinarizationRefinementAttack: "it needs starting points",
    attacks.DatasetAttack: "it needs other images",
    attacks.GenAttack: "it needs target classes",
}


@family
def foolbox(name: str) -> Callable[..., None]:
    """The attack called `name` as a function of a search, with the options of its constructor as settings.

    Refuses those that measure no norm of ours, and those that images and labels are not enough for."""
    kinds = {key: kind for key, kind in vars(attacks).items() if inspect.isclass(kind) and not inspect.isabstract(kind)}
    if name not in kinds:
        raise unknown("attack of foolbox", name, kinds)
    kind: Any = kinds[name]
    options = dict(inspect.signature(kind, eval_str=True).parameters)
    measures = next((key for key in ("distance", "constraint") if key in options), None)
    distance = None if measures else getattr(kind.__new__(kind), "distance", None)
    norms: list[Any] = [norm for norm, ours in NORMS.items() if measures or distance is ours]
    if kind in UNFIT or not norms:
        reason = UNFIT.get(kind, f"it measures {distance or 'no distance'}, and robench linf or l2")
        raise UserError(f"foolbox:{name} cannot be run: {reason}")

    @sees("gradients", norms=norms, batch_dependent=True)
    def attack(search: Search, **settings: Any) -> None:
        """Shows the model what foolbox returns, clipped to the threat as foolbox itself does before it judges. Gradient
        access is granted whether or not it is used; an attack that minimises a distance stops where it reaches eps."""
        norm = search.threat.norm
        own = {"distance": {"distance": NORMS[norm]}, "constraint": {"constraint": norm}}
        with search.as_module() as model, torch.enable_grad():
            reseed(search.draws.seed + search.draws.restart)
            seen = library.PyTorchModel(model.eval(), bounds=(0, 1), device=search.x.device)
            run = kind(**settings, **own.get(measures or "", {}))
            _, x_adv, _ = run(seen, search.x, search.y, epsilons=search.eps)
        search.offer(search.project(x_adv))

    of_ours = {"distance", "constraint", "init_attack", "tensorboard"}
    keywords = [option.replace(kind=option.KEYWORD_ONLY) for key, option in options.items() if key not in of_ours]
    attack.__signature__ = inspect.Signature(keywords)  # type: ignore[attr-defined]
    attack.__name__, attack.__doc__ = kind.__name__, f"{inspect.getdoc(kind)}\n\nRun by foolbox. {attack.__doc__}"
    return attack
