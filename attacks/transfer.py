"""Transfer: adversarial examples of other models."""

from robench.search import Search, sees
from robench.search.attack import Attack
from robench.search.resources import Sources


@sees("labels", on_sources=True)
def transfer(search: Search, *, sources: Sources, by: Attack) -> None:
    """Shows the model what `by` ends in on each source, all its steps taken and whatever the source made of it.

    The target's gradient is never asked for; the passes counted are those on the sources and one on the target for each
    of them. On the diagonal of the papers' matrices (Dong et al. 2020, Fig. 4) the source seems to be a second training
    of the same kind: the model itself as its source is a white-box attack.
    """
    for source in sources.models:
        if len(search.x):
            search.offer(search.attack_surrogate(source, by))
