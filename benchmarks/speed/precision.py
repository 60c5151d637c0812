"""Part 3: whom a search in bfloat16 misses that one in float32 finds, and the reverse."""

import tempfile
from pathlib import Path

import own
from own import Crafted
from record import Row, robustness, row, told
from scoring import score
from setting import Setting
from timing import Times

PRECISIONS = ("float32", "bfloat16")


def compare(setting: Setting, attack: str, rounds: int) -> list[Row]:
    """One attack by both precisions from the same random starts, others in each round; what either finds is scored in
    float32."""
    print(f"\nprecision, {attack}: {setting}", flush=True)
    crafted: dict[str, list[Crafted]] = {precision: [] for precision in PRECISIONS}
    with tempfile.TemporaryDirectory() as results:
        for seed in range(rounds):
            for precision, made in crafted.items():
                made.append(own.attack(setting, attack, Path(results), seed=seed, precision=precision))
    scores = {
        precision: [score(setting.model, each.x_adv, setting.x, setting.y, setting.eps) for each in made]
        for precision, made in crafted.items()
    }
    rows = []
    for precision, other in zip(PRECISIONS, reversed(PRECISIONS), strict=True):
        pairs = zip(scores[precision], scores[other], strict=True)
        found = row(
            setting,
            "precision",
            attack,
            "robench",
            Times(tuple(each.seconds for each in crafted[precision])),
            variant=precision,
            batch=crafted[precision][0].batch,
            kills_alone=sum(int((mine.fooled & ~its.fooled).sum()) for mine, its in pairs),
            **robustness(scores[precision]),
        )
        print(told(found), flush=True)
        rows.append(found)
    difference = 100 * ((rows[0].kills_alone or 0) - (rows[1].kills_alone or 0)) / setting.n / rounds
    print(f"  kills by float32 only minus kills by bfloat16 only: {difference:+.2f} points", flush=True)
    return rows
