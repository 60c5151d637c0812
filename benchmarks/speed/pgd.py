"""Part 1: PGD in robench and in the peers, as ratios to the floor."""

import tempfile
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from statistics import fmean, median

import floor
import own
import peers
from own import Crafted
from record import Row, robustness, row, told
from scoring import score
from setting import Setting
from timing import Times, fastest, in_turn, timed

from robench.utils.global_rng import reseed

FLOOR = "floor"
PROBED = 256
"""Images on which batch sizes are tried."""

Contestant = Callable[[int], Crafted]


def best_batches(setting: Setting) -> dict[str, int]:
    """Of the floor and of each peer, by a probe."""
    probe = setting.first(PROBED)
    able = [batch for batch in peers.BATCHES if batch <= probe.n] or [probe.n]
    tried: dict[str, Callable[[int], object]] = {
        FLOOR: partial(floor.measure, setting.model, probe.x, probe.y),
        **{library: partial(peers.in_batches, pgd(probe, 2), probe.x, probe.y) for library, pgd in peers.PGD.items()},
    }
    found = {name: fastest(able, run) for name, run in tried.items()}
    told = ", ".join(f"{name} {batch}" for name, batch in found.items())
    print(f"{setting.dataset}: of the batch sizes {able} {told}", flush=True)
    return found


def race(setting: Setting, steps: int, rounds: int, batches: Mapping[str, int]) -> list[Row]:
    """Everybody's PGD with so many steps."""
    print(f"\nPGD-{steps}: {setting}", flush=True)
    with tempfile.TemporaryDirectory() as results:
        contestants: dict[str, Contestant] = {
            FLOOR: partial(_floor, setting, steps, floor.BATCH),
            f"{FLOOR} at its fastest batch": partial(_floor, setting, steps, batches[FLOOR]),
            **{library: partial(_peer, setting, steps, library, batches[library]) for library in peers.PGD},
            **dict(_own(setting, steps, Path(results))),
        }
        crafted = in_turn(contestants, rounds)
    seconds = {name: Times(tuple(each.seconds for each in made)) for name, made in crafted.items()}
    rows = []
    for name, made in crafted.items():
        library, _, variant = name.partition(" ")
        first = made[0]
        scores = [score(setting.model, each.x_adv, setting.x, setting.y, setting.eps) for each in made]
        calls = [each.call for each in made if each.call is not None]
        last = [each.robust_last for each in made if each.robust_last is not None]
        found = row(
            setting,
            "pgd",
            f"pgd-{steps}",
            library,
            seconds[name],
            variant=variant,
            batch=first.batch,
            ratio=seconds[name].over(seconds[FLOOR]),
            call=median(calls) if calls else None,
            robust_last=fmean(last) if last else None,
            **({} if library == FLOOR else robustness(scores)),
        )
        print(told(found), flush=True)
        rows.append(found)
    return rows


def _floor(setting: Setting, steps: int, batch: int, round: int) -> Crafted:
    measured = floor.measure(setting.model, setting.x, setting.y, batch)
    return Crafted(setting.x, measured.seconds(steps), batch=batch)


def _peer(setting: Setting, steps: int, library: str, batch: int, round: int) -> Crafted:
    reseed(round)
    craft = peers.PGD[library](setting, steps)
    x_adv, seconds = timed(lambda: peers.in_batches(craft, setting.x, setting.y, batch))
    return Crafted(x_adv, seconds, batch=batch)


def _own(setting: Setting, steps: int, results: Path) -> Iterator[tuple[str, Contestant]]:
    """In the precision that the engine chooses here, and in float32 where that is another; each warmed up, its clean
    predictions in the ledger."""
    used: set[str] = set()
    for asked in ("auto", "float32"):
        folder = results / asked
        warm = own.attack(setting, "pgd-20:steps=1", folder, seed=0, precision=asked)
        if warm.precision in used:
            continue
        used.add(warm.precision)
        for whole, words in ((True, "nobody dropped"), (False, "the fallen dropped")):
            run = partial(_robench, setting, f"pgd-{steps}", folder, warm.precision, whole)
            yield f"robench {warm.precision}, {words}", run


def _robench(setting: Setting, name: str, folder: Path, precision: str, whole: bool, round: int) -> Crafted:
    return own.attack(setting, name, folder, seed=round, precision=precision, whole=whole)
