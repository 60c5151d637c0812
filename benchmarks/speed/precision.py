"""Part 3: whom a search in bfloat16 misses that one in float32 finds, and the reverse."""

import tempfile
from pathlib import Path

import own
from record import Row, robustness, row, told
from scoring import score
from setting import Setting
from timing import Times

PRECISIONS = ("float32", "bfloat16")


def compare(setting: Setting, attack: str) -> list[Row]:
    """One attack by both precisions from the same random start; what either finds is scored in float32."""
    print(f"\nprecision, {attack}: {setting}", flush=True)
    with tempfile.TemporaryDirectory() as results:
        crafted = {
            precision: own.attack(setting, attack, Path(results), seed=0, precision=precision)
            for precision in PRECISIONS
        }
    scores = {
        precision: score(setting.model, each.x_adv, setting.x, setting.y, setting.eps)
        for precision, each in crafted.items()
    }
    rows = []
    for precision, other in zip(PRECISIONS, reversed(PRECISIONS), strict=True):
        alone = int((scores[precision].fooled & ~scores[other].fooled).sum())
        found = row(
            setting,
            "precision",
            attack,
            "robench",
            Times((crafted[precision].seconds,)),
            variant=precision,
            batch=crafted[precision].batch,
            kills_alone=alone,
            **robustness([scores[precision]]),
        )
        print(told(found), flush=True)
        rows.append(found)
    difference = 100 * ((rows[0].kills_alone or 0) - (rows[1].kills_alone or 0)) / setting.n
    print(f"  kills by float32 only minus kills by bfloat16 only: {difference:+.2f} points", flush=True)
    return rows
