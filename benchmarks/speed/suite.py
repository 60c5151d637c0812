"""Part 2: a suite of attacks in one evaluation of robench, and the same attacks from the peers one after another."""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import peers
import torch
from own import BATCH
from record import Row, robustness, row, told
from scoring import Score, score, union
from setting import Setting
from timing import Times, fastest, in_turn, timed
from torch import Tensor

import robench
from robench.ledger.summary import Summary
from robench.specs.choices import Mode
from robench.utils.global_rng import reseed
from robench.utils.stats import Interval

ALL = "all"


@dataclass(frozen=True)
class Sweep:
    """All attacks once: seconds and scores by their names, and under `ALL` the whole and the worst case; with what
    robench says of the accuracies in the run that was timed."""

    seconds: Mapping[str, float]
    scores: Mapping[str, Score]
    told: Mapping[str, float | None] = field(default_factory=dict)


def race(setting: Setting, attacks: Sequence[str], rounds: int, batches: Mapping[str, int]) -> list[Row]:
    """The peers, robench in columns and in worst-case mode, each evaluation whole: model, data and diagnosis, a fresh
    ledger, the summary; after a warm-up, so that no import counts."""
    print(f"\nsuite {', '.join(attacks)}: {setting}", flush=True)
    for name in attacks:
        if peers.SUITE[name].differs:
            print(f"  (the {name} of {peers.SUITE[name].package} {peers.SUITE[name].differs})")
    if peers.SPSA in attacks:
        batches = {**batches, peers.SPSA: _spsa_batch(setting)}
        print(f"  (the batch size of SPSA is {batches[peers.SPSA]}, of {peers.BATCHES})")
    _peers(setting, ["fgsm"], batches, 0)
    _evaluated(setting, ["fgsm"], "columns", 0)
    sweeps = in_turn(
        {
            "peers": lambda seed: _peers(setting, attacks, batches, seed),
            "robench columns": lambda seed: _robench(setting, attacks, "columns", seed),
            "robench worst-case": lambda seed: _robench(setting, attacks, "worst-case", seed),
        },
        rounds,
    )
    peers_whole = _times(sweeps["peers"], ALL)
    rows = []
    for attack in (*attacks, ALL):
        print(f" {attack if attack != ALL else f'all {len(attacks)}'}")
        for contestant, swept in sweeps.items():
            if attack not in swept[0].seconds:
                continue
            times, told_of = _times(swept, attack), [sweep.told.get(attack) for sweep in swept]
            library, _, variant = contestant.partition(" ")
            found = row(
                setting,
                "suite",
                attack if attack != ALL else " ".join(attacks),
                peers.SUITE[attack].package if library == "peers" and attack != ALL else library,
                times,
                variant=variant,
                ratio=peers_whole.over(times) if attack == ALL else None,
                robust_told=None if None in told_of else fmean(told_of),
                **robustness([sweep.scores[attack] for sweep in swept]),
            )
            print(told(found), flush=True)
            rows.append(found)
    return rows


def _times(sweeps: Sequence[Sweep], attack: str) -> Times:
    return Times(tuple(sweep.seconds[attack] for sweep in sweeps))


def _score(setting: Setting, x_adv: Tensor) -> Score:
    return score(setting.model, x_adv, setting.x, setting.y, setting.eps)


def _peers(setting: Setting, attacks: Sequence[str], batches: Mapping[str, int], seed: int) -> Sweep:
    seconds, scores = {}, {}
    for name in attacks:
        peer = peers.SUITE[name]
        batch = batches.get(name, batches[peer.package])
        craft = peer.craft(setting, batch)
        reseed(seed)
        size = peers.SPSA_IMAGES if name == peers.SPSA else batch
        x_adv, seconds[name] = timed(lambda: peers.in_batches(craft, setting.x, setting.y, size))  # noqa: B023
        scores[name] = _score(setting, x_adv)
    return Sweep({**seconds, ALL: sum(seconds.values())}, {**scores, ALL: union(list(scores.values()))})


def _spsa_batch(setting: Setting) -> int:
    """The fastest for a step on the first images."""
    probe = setting.first(peers.SPSA_IMAGES)
    return fastest(peers.BATCHES, lambda batch: peers.spsa(probe, batch, steps=1)(probe.x, probe.y))


def _robench(setting: Setting, attacks: Sequence[str], mode: Mode, seed: int) -> Sweep:
    """Timed as it is run, then run again to be scored: where adversarial examples are saved, attacks that begin alike
    share no run."""
    summary, call = timed(lambda: _evaluated(setting, attacks, mode, seed))
    with tempfile.TemporaryDirectory() as folder:
        _evaluated(setting, attacks, mode, seed, save_adversarial=folder)
        scores = {name: _score(setting, _saved(setting, Path(folder) / f"{name}.npz")) for name in attacks}
    worst, worst_told = union(list(scores.values())), _value(summary.worst_case)
    if mode == "worst-case":  # no attack has an accuracy of its own: each met the survivors of others
        return Sweep({ALL: call}, {ALL: worst}, {ALL: worst_told})
    found = {name: summary.attacks[name] for name in attacks}
    return Sweep(
        {**{name: each.seconds for name, each in found.items()}, ALL: call},
        {**scores, ALL: worst},
        {**{name: _value(each.accuracy) for name, each in found.items()}, ALL: worst_told},
    )


def _evaluated(setting: Setting, attacks: Sequence[str], mode: Mode, seed: int, **options: Any) -> Summary:
    """A whole evaluation into a fresh ledger."""
    with tempfile.TemporaryDirectory() as results:
        return robench.evaluate(
            setting.subject,
            results=results,
            attacks=attacks,
            dataset=f"npz:{setting.file}",
            norm="linf",
            eps=setting.eps_written,
            n=setting.n,
            seed=seed,
            device="cpu",
            mode=mode,
            batch_size=BATCH,
            **options,
        )


def _value(interval: Interval | None) -> float | None:
    return interval.value if interval else None


def _saved(setting: Setting, file: Path) -> Tensor:
    """The adversarial examples of an archive, and the images themselves where it holds none."""
    x_adv = setting.x.clone()
    if file.exists():
        with np.load(file) as archive:
            x_adv[torch.from_numpy(archive["ids"])] = torch.from_numpy(archive["x_adv"])
    return x_adv
