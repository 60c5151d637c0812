"""Shards of an evaluation: parts of its examples, in any order or at once, make up the whole."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from robench.evaluation import shards
from robench.evaluation.run import run
from robench.evaluation.shards import Part, Scale, Unit
from robench.ledger.store import Ledger
from tests.evaluation.cases import assert_equal_ledgers, planned
from tests.helpers import Ran, Trained

Run = Callable[..., Ran]


@pytest.mark.parametrize("mode", ["columns", "worst-case"])
def test_parts_in_any_order_make_up_the_whole(mode: str, tmp_path: Path, digits_model: Trained) -> None:
    evaluation = planned(digits_model, ["pgd-10", "fgsm", "rays:queries=20"], mode=mode, n=34, batch_size=8)
    whole = run(evaluation, tmp_path / "whole")
    counts = [run(evaluation, tmp_path / "parts", scale=Scale.of(part=part)).n for part in ("3/3", "1/3", "2/3")]
    assert counts == [10, 18, 34]  # whole batches of 8, of which the last is of 2
    last = run(evaluation, tmp_path / "parts")
    assert_equal_ledgers(tmp_path / "whole", tmp_path / "parts")
    assert (last.worst_case, last.classes) == (whole.worst_case, whole.classes)
    assert all(
        len(list(cell.path.glob("part-*"))) == 1 for cell in Ledger(tmp_path / "parts").cells() if not cell.found
    )


def test_parts_at_once_make_up_the_whole(model: Path, in_tmp: Path) -> None:
    script = in_tmp / "forks.py"
    script.write_text(PARTS_AT_ONCE)
    done = subprocess.run([sys.executable, str(script), str(model)], capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    assert_equal_ledgers(in_tmp / "whole", in_tmp / "parts")


PARTS_AT_ONCE = """
import os, traceback
import torch
torch.set_num_threads(1)
import sys
from robench.evaluation.run import run
from robench.evaluation.plan import EvaluationOptions, plan_evaluation
from robench.evaluation.shards import Scale

evaluation = plan_evaluation(sys.argv[1], EvaluationOptions(attacks=["fgsm", "pgd-10"], batch_size=8, n=48))

def child(results, **scale):
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            run(evaluation, results, scale=Scale.of(**scale))
            assert not {"matplotlib", "accelerate", "torch._dynamo"} & set(sys.modules)  # which take seconds to import
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    return pid

for running in ([child("parts", part=f"{i}/4") for i in (1, 2, 3, 4)], [child("whole")]):
    for pid in running:
        assert os.waitpid(pid, 0)[1] == 0
"""


@pytest.mark.parametrize("written", ["0/2", "3/2", "2", "a/b", "1/0", "-1/2", "1/2/3", ""])
def test_a_part_that_is_none(written: str, robench: Run, model: Path) -> None:
    ran = robench("eval", "--model", model, "--attack", "fgsm", f"--part={written}")
    assert (ran.code, ran.out) == (2, "")
    assert ran.err == f"robench: expected a part as i/k with i from 1 to k, such as 2/4, got {written!r}\n"


def test_what_a_part_says(robench: Run, model: Path) -> None:
    command = ["eval", "--model", model, "--attack", "fgsm", "--n", 100, "--batch-size", 32]
    ran = robench(*command, "--part", "2/3")
    assert "part 2/3, examples 32 to 63, is done" in ran.err
    assert "the ledger has 32 of 100; the other parts have the rest" in ran.err
    assert "on 32 of digits" in ran.out
    assert "expected at most 4 parts" in robench(*command, "--part", "1/5").err
    for options in (["--fail-under", 0.1], ["--save-adversarial", "kept"]):
        refused = robench(*command, "--part", "1/3", *options)
        assert refused.code == 2
        assert "part 1/3" in refused.err
    assert "expected at least 1 worker, got 0" in robench(*command, "--workers", 0).err
    assert "unknown executor 'rai'; did you mean 'ray'?" in robench(*command, "--executor", "rai").err


@pytest.mark.parametrize("workers", [1, 2, 7])
@pytest.mark.parametrize(("start", "stop", "size"), [(0, 500, 128), (0, 1, 8), (96, 10_000, 16), (0, 50_000, 10_000)])
def test_units_are_whole_batches(workers: int, start: int, stop: int, size: int, tmp_path: Path) -> None:
    cell = Ledger(tmp_path).cell({}, {}, {"batch_size": size})
    pieces = [unit.ids for unit in Unit("fgsm", range(start, stop), cell, cell).cut(workers)]
    assert [example for piece in pieces for example in piece] == list(range(start, stop))
    assert all(piece.start % size == 0 for piece in pieces)
    assert all(len(piece) <= max(shards.LARGEST, size) for piece in pieces)
    assert len(pieces) >= min(-(-(stop - start) // size), workers)


@pytest.mark.parametrize(("n", "k"), [(10, 3), (10, 10), (1, 1), (1000, 7)])
def test_parts_divide_the_batches(n: int, k: int) -> None:
    parts = [Part(i, k).of(range(4 * n - 1), 4) for i in range(1, k + 1)]
    assert [example for part in parts for example in part] == list(range(4 * n - 1))
    assert all(part and part.start % 4 == 0 for part in parts)
    assert max(map(len, parts)) - min(map(len, parts)) <= 7
