"""Workers, parts, and sets of any size: the ledger is the serial run's, whoever dies on the way."""

import io
import multiprocessing
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from robench import api
from robench.data import datasets, parquet
from robench.data.parquet import StoredImages
from robench.evaluation import shards
from robench.evaluation.evaluation import Evaluation
from robench.evaluation.executors import names, processes
from robench.evaluation.plan import EvaluationOptions, plan_evaluation
from robench.evaluation.run import Silent, run
from robench.evaluation.shards import Part, Scale, Unit
from robench.ledger import store
from robench.ledger.per_example import condensed, tally
from robench.ledger.store import CLEAN, Cell, Ledger
from robench.ledger.summary import Summary, summarise, summarise_tallies
from robench.models import checkpoint
from robench.models.checkpoint import Card
from robench.utils.errors import UserError
from robench.utils.serialize import pack, unpack
from tests import ledgers
from tests.helpers import Linear, Ran, Trained

Run = Callable[..., Ran]


def frames(results: Path) -> dict[str, pd.DataFrame]:
    """Every cell's rows by its attack's name, without the time they took."""
    return {cell.about["attack"]: cell.rows().drop(columns="seconds") for cell in Ledger(results).cells()}


def assert_equal_ledgers(first: Path, second: Path) -> None:
    a, b = frames(first), frames(second)
    assert a.keys() == b.keys()
    for name in a:
        pd.testing.assert_frame_equal(a[name], b[name], check_exact=True)
    assert documents(first) == documents(second)


def documents(results: Path) -> list[Any]:
    """What was found in cells without rows."""
    return [cell.found for cell in Ledger(results).cells() if cell.found]


def planned(trained: Trained, attacks: Sequence[str] = ("fgsm", "pgd-10"), **options: Any) -> Evaluation:
    return plan_evaluation(
        trained.model, EvaluationOptions(**{"attacks": attacks, "eps": 0.08, "batch_size": 4, "n": 64, **options})
    )


DIES = """
import os, signal
from pathlib import Path
from robench.access import sees
from robench.losses import cross_entropy
from robench.search import Search

calls = 0

@sees("gradients")
def dies(search: Search, *, mark: str = "mark", at: int = 4) -> None:
    global calls
    calls += 1
    if calls == at and not Path(mark).exists():
        Path(mark).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    search.offer(search.project(search.x + search.eps * search.gradient(search.x, cross_entropy).sign()))
"""
"""The process that first runs four batches of it dies in the fourth: the second of a unit, whose first is not yet
written."""


@pytest.fixture
def model(in_tmp: Path, digits_model: Trained) -> Path:
    """A checkpoint of the digits model in an empty working directory."""
    card = Card("digit_cnn", [1, 8, 8], 10, [0.0], [1.0], "digits", "linf", "0.08", "standard", {}, 0)
    checkpoint.save(in_tmp / "digits.pt", digits_model.model, card)
    return in_tmp / "digits.pt"


def told(ran: Ran) -> list[str]:
    """What was shown of each attack, without its speed."""
    return [re.sub(r", [\d,]+ passes/s", "", line) for line in ran.err.splitlines() if " robust" in line]


@pytest.mark.parametrize(
    "attacks",
    [
        ("fgsm", "apgd-ce", "dies.py:mark=mark"),
        pytest.param(("foolbox:LinfPGD:steps=3", "adt_exp_am:epochs=1,filters=8", "dies.py"), marks=pytest.mark.slow),
    ],
)
def test_two_workers_of_whom_one_is_killed_leave_the_serial_ledger(
    attacks: Sequence[str], robench: Run, model: Path
) -> None:
    Path("dies.py").write_text(DIES)
    command: list[Any] = ["eval", "--model", model, "--n", 64, "--batch-size", 4]
    command += [word for attack in attacks for word in ("--attack", attack)]
    Path("mark").touch()  # nobody dies
    serial = robench(*command, "--results", "serial")
    assert serial.code == 0, serial.err
    Path("mark").unlink()
    shared = robench(*command, "--results", "shared", "--workers", 2)
    assert shared.code == 0, shared.err
    assert Path("mark").exists()
    assert_equal_ledgers(Path("serial"), Path("shared"))
    assert told(shared) == told(serial)
    assert len(told(serial)) == 2 + len(attacks)
    assert multiprocessing.active_children() == []


class Kills(Silent):
    """Kills one of the workers when the attack has advanced so often."""

    def __init__(self, attack: str, advances: int) -> None:
        self.attack, self.left, self.killed = attack, advances, 0
        self.seen: dict[str, list[int]] = {}

    def begin(self, attack: str, examples: int) -> None:
        self.running = attack
        self.seen[attack] = [examples, 0]

    def advance(self, examples: int, robust: int) -> None:
        self.seen[self.running][1] += examples
        self.left -= self.running == self.attack
        if self.left == 0 and not self.killed:
            child = multiprocessing.active_children()[0]
            assert child.pid
            os.kill(child.pid, signal.SIGKILL)
            self.killed = child.pid


def test_the_worst_case_by_workers_of_whom_one_is_killed_is_the_serial_one(
    tmp_path: Path, digits_model: Trained
) -> None:
    evaluation = planned(digits_model, ["pgd-20", "fgsm"], mode="worst-case")
    serial = run(evaluation, tmp_path / "serial")
    kills = Kills("pgd-20", 5)
    shared = run(evaluation, tmp_path / "shared", kills, scale=Scale(2, "processes"))
    assert kills.killed
    assert all(examples == advanced for examples, advanced in kills.seen.values())
    assert_equal_ledgers(tmp_path / "serial", tmp_path / "shared")
    assert 0 < serial.attacks["pgd-20"].n_run < 64
    assert [(name, each.n_run) for name, each in shared.attacks.items()] == [
        (name, each.n_run) for name, each in serial.attacks.items()
    ]
    assert shared.worst_case == serial.worst_case


def test_a_unit_that_kills_every_worker_ends_the_run_in_one_sentence(
    in_tmp: Path, digits_model: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "RETRIES", 0)
    (in_tmp / "dies.py").write_text(DIES)
    evaluation = planned(digits_model, ["dies.py:mark=mark,at=1"])
    with pytest.raises(UserError, match=r"1 workers died .* on examples 0 to \d+ under dies:mark=mark"):
        run(evaluation, in_tmp, scale=Scale(1, "processes"))
    assert multiprocessing.active_children() == []
    assert "dies:mark=mark,at=1" in frames(in_tmp)  # the next run, in which nobody dies, ends it
    run(evaluation, in_tmp)
    assert len(frames(in_tmp)["dies:mark=mark,at=1"]) == 64


@pytest.mark.parametrize("executor", names())
def test_with_nothing_to_run_nothing_is_started(
    executor: str, tmp_path: Path, digits_model: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    if executor == "ray":
        pytest.importorskip("ray")
    evaluation = planned(digits_model, n=20)
    first = run(evaluation, tmp_path)
    monkeypatch.setattr("robench.evaluation.worker.Prepared.__init__", None)
    monkeypatch.setattr("robench.evaluation.executors.processes.Executor._start", None)
    assert run(evaluation, tmp_path, scale=Scale(1, executor)) == first


def test_ray_leaves_the_serial_ledger(in_tmp: Path, digits_model: Trained) -> None:
    ray = pytest.importorskip("ray")
    (in_tmp / "dies.py").write_text(DIES)
    mark = in_tmp / "mark"
    evaluation = planned(digits_model, ["fgsm", "apgd-ce", f"dies.py:mark={mark}"])
    run(evaluation, in_tmp / "ray", scale=Scale(2, "ray"))
    assert mark.exists()
    assert not ray.is_initialized()
    run(evaluation, in_tmp / "serial")
    assert_equal_ledgers(in_tmp / "serial", in_tmp / "ray")


def test_a_model_that_cannot_travel_is_refused_before_anything_runs(tmp_path: Path, digits_model: Trained) -> None:
    class Local(Linear): ...

    evaluation = plan_evaluation(
        Local(torch.zeros(10, 64), torch.zeros(10)), EvaluationOptions(attacks=["fgsm"], eps=0.1)
    )
    with pytest.raises(UserError, match=r"Local cannot be sent to another process .*at the top of a file"):
        run(evaluation, tmp_path, scale=Scale(2, "processes"))
    assert Ledger(tmp_path).cells() == []


def test_a_class_that_the_other_process_lacks_is_said() -> None:
    elsewhere = ModuleType("elsewhere")
    elsewhere.Thing = type("Thing", (), {"__module__": "elsewhere"})  # type: ignore[attr-defined]
    sys.modules["elsewhere"] = elsewhere
    packed = pack(elsewhere.Thing(), "mine")
    del sys.modules["elsewhere"]
    with pytest.raises(UserError, match=r"mine cannot be rebuilt in another process .*elsewhere"):
        unpack(packed, "mine")


def test_what_a_users_file_defines_travels_by_the_file(in_tmp: Path) -> None:
    (in_tmp / "nets.py").write_text(
        "from torch import nn\nclass Net(nn.Linear): ...\ndef net(): return nn.Sequential(nn.Flatten(), Net(64, 10))\n"
    )
    evaluation = plan_evaluation("nets.py:net", EvaluationOptions(attacks=["foolbox:LinfPGD:steps=2"], eps=0.1))
    found = unpack(pack(evaluation, "it"), "it")
    ours, theirs = (type(list(each.subject.model.children())[1]) for each in (evaluation, found))
    assert (theirs.__name__, theirs is ours) == ("Net", False)
    assert found.attacks[0].name == "foolbox:LinfPGD:steps=2"
    assert found.key(found.attacks[0]) == evaluation.key(evaluation.attacks[0])


# Parts


@pytest.mark.parametrize("mode", ["columns", "worst-case"])
def test_parts_in_any_order_make_up_the_whole(mode: str, tmp_path: Path, digits_model: Trained) -> None:
    evaluation = planned(digits_model, ["pgd-10", "fgsm", "rays:queries=20"], mode=mode, n=130, batch_size=8)
    whole = run(evaluation, tmp_path / "whole")
    counts = [run(evaluation, tmp_path / "parts", scale=Scale.of(part=part)).n for part in ("3/3", "1/3", "2/3")]
    assert counts == [42, 82, 130]  # whole batches of 8, of which the last is of 2
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


# Sets of any size


def write(folder: Path, images: np.ndarray, labels: np.ndarray, *, group: int, files: int = 1) -> str:
    """A set in Parquet files, in groups of rows; gives its name."""
    folder.mkdir()
    for number, rows in enumerate(np.array_split(np.arange(len(images)), files)):
        encoded = []
        for image in images[rows]:
            stream = io.BytesIO()
            Image.fromarray(image).save(stream, "PNG")
            encoded.append({"bytes": stream.getvalue(), "path": None})
        table = pa.table({"image": encoded, "label": labels[rows]})
        pq.write_table(table, folder / f"test-{number:05}-of-{files:05}.parquet", row_group_size=group)
    return f"parquet:{folder}"


PIXELS = np.random.default_rng(0).integers(0, 256, (300, 8, 8), dtype=np.uint8)
SIDES = (PIXELS.mean((1, 2)) > 127).astype(np.int64)


def bright() -> Linear:
    """Tells images brighter than the middle from darker ones."""
    return Linear(torch.stack([-torch.ones(64), torch.ones(64)]), torch.tensor([31.9, -31.9]))


def test_images_on_disk_are_those_in_memory(tmp_path: Path) -> None:
    name = write(tmp_path / "set", PIXELS, SIDES, group=64, files=2)
    streamed, loaded = datasets.load(name, "test", stream=True), datasets.load(name, "test")
    assert isinstance(streamed.images, StoredImages)
    assert isinstance(loaded.images, torch.Tensor)
    assert streamed.shape == loaded.shape == (1, 8, 8)
    assert torch.equal(streamed.labels, loaded.labels)
    for rows in (slice(None), slice(60, 70), [299, 0, 149, 150, 3], np.arange(0, 300, 37), torch.tensor([5]), []):
        assert torch.equal(streamed.floats(rows), loaded.floats(rows))
    assert torch.equal(streamed.take(slice(1, 4)).images[:], loaded.images[1:4])
    moved = streamed.to(torch.device("cpu"))
    assert torch.equal(moved.floats([7]), loaded.floats([7]))


def test_the_fingerprint_of_a_set_on_disk_is_of_its_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one_pixel, one_label, swapped = PIXELS.copy(), SIDES.copy(), np.arange(300)
    one_pixel[250, 3, 3] ^= 1
    one_label[250] = 2
    swapped[[7, 8]] = [8, 7]
    sets = [
        write(tmp_path / "a", PIXELS, SIDES, group=64),
        write(tmp_path / "b", PIXELS, SIDES, group=7, files=3),  # the same, otherwise divided
        write(tmp_path / "c", one_pixel, SIDES, group=64),
        write(tmp_path / "d", PIXELS, one_label, group=64),
        write(tmp_path / "e", PIXELS[swapped], SIDES, group=64),
    ]
    decoded: list[str] = []

    def decode(encoded: Any, where: str) -> np.ndarray:
        decoded.append(where)
        return np.zeros((1, 8, 8), dtype=np.uint8)

    monkeypatch.setattr(parquet, "decode", decode)
    first, again, *others = [datasets.load(name, "test", stream=True).fingerprint for name in sets]
    assert first == again
    assert len({first, *others}) == 4
    assert len(decoded) == len(sets)  # the first image tells the size


def test_a_broken_image_on_disk_is_named_when_it_is_met(tmp_path: Path) -> None:
    name = write(tmp_path / "set", PIXELS[:24], SIDES[:24], group=9)
    table = pq.read_table(tmp_path / "set").to_pydict()
    table["image"][20]["bytes"] = b"no"
    pq.write_table(pa.table(table), tmp_path / "set" / "test-00000-of-00001.parquet")
    evaluation = plan_evaluation(bright(), EvaluationOptions(attacks=["fgsm"], eps=0.01, dataset=name))
    with pytest.raises(UserError, match="row 20: not an image"):
        run(evaluation, tmp_path)
    assert (
        run(plan_evaluation(bright(), EvaluationOptions(attacks=["fgsm"], eps=0.01, dataset=name, n=20)), tmp_path).n
        == 20
    )


def test_a_large_set_is_held_a_window_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody holds more rows of the ledger than a window's, more images than a batch's, or more groups than one."""
    name = write(tmp_path / "set", PIXELS, SIDES, group=50)
    evaluation = plan_evaluation(
        bright(), EvaluationOptions(attacks=["fgsm", "pgd-10"], eps=0.02, dataset=name, batch_size=20)
    )
    whole = run(evaluation, tmp_path / "whole")
    monkeypatch.setattr(store, "WINDOW", 128)
    monkeypatch.setattr(shards, "LARGEST", 40)
    rows, images, groups = [0], [0], [0]
    merged, item = store._merged, StoredImages.__getitem__

    def reading(parts: Sequence[Path], ids: range | None) -> pa.Table:
        table = merged(parts, ids)
        rows.append(len(table))
        return table

    def asked(self: StoredImages, wanted: Any) -> torch.Tensor:
        found = item(self, wanted)
        images.append(len(found))
        groups.append(len(self._kept))
        return found

    monkeypatch.setattr(store, "_merged", reading)
    monkeypatch.setattr(StoredImages, "__getitem__", asked)
    summary = run(evaluation, tmp_path / "windows")
    assert max(rows) == 128
    assert max(images) == 100  # the diagnosis takes the first 100
    assert sorted(set(images))[-2] == 20
    assert max(groups) == 1
    assert content(summary) == content(whole)
    assert_equal_ledgers(tmp_path / "whole", tmp_path / "windows")


def content(summary: Summary) -> Any:
    """What it says, without times and places; spreads to seven digits, as the order of adding may change the last."""
    document = summary.to_json()
    for block in (document["clean"], *document["attacks"].values()):
        block.pop("seconds", None)
        if block["spread"] is not None:
            block["spread"] = round(block["spread"], 7)
    del document["ledger"]
    return document


STATES = ("ok", "ok", "ok", "invalid", "unstable", "error", "skipped")


@pytest.mark.parametrize("seed", range(6))
def test_what_fared_alike_is_counted_as_each_by_itself(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The summary of condensed rows, window by window, is that of all rows."""
    monkeypatch.setattr(store, "WINDOW", 50)
    rng = np.random.default_rng(seed)
    n, wrong = 230, rng.random(230) < 0.1
    labels = rng.integers(0, 3, n)
    labels[-1], wrong[-1] = labels[0], wrong[0]  # the last, which costs most, fares as the first
    states = STATES if seed % 2 else STATES[:-1]
    cells = {CLEAN: cell(tmp_path, CLEAN, labels, wrong, wrong, np.full(n, "ok", dtype=object), rng)}
    for name in ("one", "two", "three"):
        status = np.where(wrong, "ok", rng.choice(states, n)).astype(object)
        fooled = (wrong | (rng.random(n) < 0.4)).astype(object)
        fooled[np.isin(status, ("error", "skipped"))] = None
        status[-1], fooled[-1] = status[0], fooled[0]
        cells[name] = cell(tmp_path, name, labels, wrong, fooled, status, rng)
    together, whole = summarise(cells), summarise_tallies(cells, tally(cells))
    assert content(together) == content(whole)
    assert sum(each.errors for each in whole.attacks.values()) > 20
    alike, each = condensed(cells, range(n)), tally(cells)
    assert len(alike[CLEAN]) < n
    assert [(t.n, t.dearest.max()) for t in alike.values()] == [(t.n, t.dearest.max()) for t in each.values()]


def cell(
    results: Path, name: str, labels: np.ndarray, wrong: np.ndarray, fooled: Any, status: np.ndarray, rng: Any
) -> Cell:
    n = len(labels)
    made = ledgers.write(results, name, [None] * n)
    for part in made.path.glob("part-*"):
        part.unlink()
    read, backwards = rng.random(n) < 0.5, rng.integers(0, 9, n)
    read[-1], backwards[-1] = read[0], 99
    columns: dict[str, Any] = {field.name: [None if field.nullable else 0] * n for field in store.ROW}
    columns |= {
        "example": np.arange(n),
        "label": labels,
        "clean_prediction": np.where(wrong, (labels + 1) % 3, labels),
        "fooled": fooled,
        "fooled_final": [value if read else None for value, read in zip(fooled, read, strict=True)],
        "forwards": rng.integers(0, 9, n),
        "backwards": backwards,
        "queries": rng.integers(0, 9, n),
        "share_right": rng.integers(0, 21, n) / 20,
        "status": status,
        "message": [f"failed on {i}" if each == "error" else None for i, each in enumerate(status)],
    }
    made.append(pa.table({key: list(values) for key, values in columns.items()}, schema=store.ROW))
    return made


def test_python_takes_the_same_words(tmp_path: Path, digits_model: Trained) -> None:
    options: dict[str, Any] = {"attacks": ["fgsm"], "eps": 0.1, "n": 40, "batch_size": 10, "results": tmp_path}
    assert api.evaluate(digits_model.model, part="2/2", **options).n == 20
    with pytest.raises(UserError, match="expected 1 worker for the executor serial, got 2"):
        api.evaluate(digits_model.model, workers=2, executor="serial", **options)


@pytest.mark.parametrize("command", [["eval", "--model", "none.pt"], ["bench", "quickstart"], ["reproduce"]])
def test_a_process_of_a_launcher_does_not_repeat_an_evaluation(
    command: list[str], robench: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", "1")
    ran = robench(*command)
    assert ran.code == 2
    assert "torchrun shares a training, not an evaluation" in ran.err
