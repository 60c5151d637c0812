"""Files that are not what they are called: each ends in one of robench's exit codes, runs no code, and writes nothing
beside the results folder."""

import io
import json
import pickle
import resource
import shutil
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from robench.ledger.cell import Cell
from robench.ledger.schema import ROW
from robench.models import build, checkpoint
from robench.models.checkpoint import Card
from tests import ledgers
from tests.helpers import Ran

Run = Callable[..., Ran]

pytestmark = pytest.mark.filterwarnings("default")

CODES = {0, 1, 2}
PART = "part-0.parquet"


class Runs:
    """Pickled, it is code."""

    def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
        return (Path.touch, (Path("PWNED"),))  # type: ignore[return-value]


LAUGHS = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{name}: &{name} [{','.join([f'*{before}'] * 9)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)

TEXTS = {
    "nothing": b"",
    "zeros": bytes(5000),
    "noise": bytes(range(256)) * 9,
    "a pickle": pickle.dumps(Runs()),
    "deep lists": b"[" * 100_000,
    "deep objects": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "a number": b"7",
    "a long number": b"9" * 100_000,
    "a list": b"[1, 2, 3]",
    "null": b"null",
    "text": b'"text"',
    "NaN": b'{"key": NaN, "about": Infinity, "run": -Infinity}',
    "other encodings": "{}".encode("utf-16"),
}
"""What may stand in any file."""

YAML = {
    "laughs": LAUGHS.encode(),
    "deep": b"a: " + b"[" * 3000 + b"]" * 3000,
    "deep blocks": b"".join(b" " * level + b"a:\n" for level in range(3000)),
    "an object": b"!!python/object/apply:os.system ['touch PWNED']",
    "a name": b"!!python/name:os.system",
    "itself": b"&a [*a]",
    "a date": b"attacks: 2024-13-45",
    "absurd": f"models: [model.pt]\nattacks: ['pgd-20:steps={10**20}']\nn: {10**30}\n".encode(),
    "absurd seeds": b"models: [model.pt]\nattacks: [fgsm]\nseeds: [-1, 99999999999999999999]\nn: 4\n",
    "keys": b"? [a, b]\n: 1\n",
    "two documents": b"a: 1\n---\nb: 2\n",
    "names": b"models: ['\\x1b[31m', '../../../etc/passwd', /dev/zero]\nattacks: [fgsm]\nn: 4\n",
}


def documents() -> Iterator[tuple[str, object]]:
    """JSON that is no cell's and no diagnosis's."""
    odd: dict[str, object] = {"a number": 7, "a list": [1], "text": "x", "null": None, "an object": {"a": {"b": []}}}
    for name, value in odd.items():
        for part in ("key", "about", "run"):
            yield f"{part} is {name}", {"key": {}, "about": {}, "run": {}, part: value}


def changed() -> Iterator[tuple[str, str, object]]:
    """What a cell may say wrongly of itself: a part, a name in it, and the value."""
    odd: list[object] = [[], {"a": 1}, "\x1b[31m<script>", -1, 1e400, None]
    for part, name in (
        *(("about", name) for name in ("model", "attack", "classes", "recipe", "eps", "dataset", "parts", "draws")),
        *(("key", name) for name in ("threat", "attack", "model")),
        ("run", "started"),
    ):
        for value in odd:
            yield part, name, value


def parts() -> Iterator[tuple[str, pa.Table]]:
    """Rows that are none of a ledger's."""
    rows = ROW.empty_table()
    yield "no columns", pa.table({})
    yield "other columns", pa.table({"a": [1, 2]})
    yield "text for numbers", pa.table({name: ["x"] for name in rows.column_names})
    yield "one lacks", rows.drop_columns(["status"])
    yield "nested", pa.table({name: [[1]] for name in rows.column_names})
    yield "huge ids", pa.table({name: pa.array([2**62], pa.int64()) for name in rows.column_names})


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("place")
    card = Card("digit_cnn", [1, 8, 8], 10, [0.0], [1.0], "digits", "linf", "0.08", "standard", {}, 0)
    checkpoint.save(folder / "model.pt", build("digit_cnn", (1, 8, 8), 10), card)
    return folder


def fresh(place: Path) -> Cell:
    """An attack's cell of a ledger of three."""
    shutil.rmtree(place / "results", ignore_errors=True)
    ledgers.clean(place / "results")
    ledgers.clean(place / "results", model="other")
    return ledgers.write(place / "results", "fgsm", ledgers.fooled(1))


def cases() -> Iterator[tuple[str, Callable[[Path], tuple[str, ...]]]]:
    """A name, and what makes the file in a folder and gives the line that reads it."""

    def of_cell(name: str, content: bytes, file: str) -> Callable[[Path], tuple[str, ...]]:
        def make(place: Path) -> tuple[str, ...]:
            (fresh(place).path / file).write_bytes(content)
            return ("leaderboard", "--format", "html" if "html" in name else "md")

        return make

    def of_yaml(command: str, content: bytes) -> Callable[[Path], tuple[str, ...]]:
        def make(place: Path) -> tuple[str, ...]:
            (place / "given.yaml").write_bytes(content)
            return (command, "given.yaml", *(["--dry-run"] if command == "reproduce" else []))

        return make

    def of_npz(content: bytes) -> Callable[[Path], tuple[str, ...]]:
        def make(place: Path) -> tuple[str, ...]:
            (place / "given.npz").write_bytes(content)
            return ("verify", "--model", "model.pt", "--adversarial", "given.npz")

        return make

    def of_change(part: str, name: str, value: object) -> Callable[[Path], tuple[str, ...]]:
        def make(place: Path) -> tuple[str, ...]:
            path = fresh(place).path / "cell.json"
            document = json.loads(path.read_text())
            del document["checksum"]
            document[part][name] = value
            path.write_text(json.dumps(document))
            return ("leaderboard", "--format", "html")

        return make

    for name, content in TEXTS.items():
        for file in ("cell.json", "found.json", PART, "../.index"):
            yield f"{file}: {name}", of_cell(name, content, file)
    for name, document in documents():
        yield f"cell.json: {name}", of_cell(name, json.dumps(document).encode(), "cell.json")
        yield f"found.json: {name}", of_cell(name, json.dumps(document).encode(), "found.json")
    for part, name, value in changed():
        yield f"{part}.{name} is {value!r}", of_change(part, name, value)
    for name, table in parts():
        stream = io.BytesIO()
        pq.write_table(table, stream)
        yield f"{PART}: {name}", of_cell(name, stream.getvalue(), PART)
    for name, content in {**TEXTS, **YAML}.items():
        for command in ("bench", "reproduce"):
            yield f"{command}: {name}", of_yaml(command, content)
    for name, content in {**TEXTS, **dict(archives())}.items():
        yield f"verify: {name}", of_npz(content)


def archives() -> Iterator[tuple[str, bytes]]:
    """Archives that are not arrays of images."""
    image = np.zeros((2, 1, 8, 8), np.float32)
    odd: dict[str, dict[str, Any]] = {
        "objects": {"x_adv": np.array([Runs(), Runs()], dtype=object), "ids": np.arange(2)},
        "complex": {"x_adv": image.astype(complex), "ids": np.arange(2)},
        "text": {"x_adv": np.full((2, 1, 8, 8), "x"), "ids": np.arange(2)},
        "no images": {"x_adv": image[:0], "ids": np.arange(0)},
        "flat": {"x_adv": image.reshape(-1), "ids": np.arange(2)},
        "other shape": {"x_adv": np.zeros((2, 3, 9, 9), np.float32), "ids": np.arange(2)},
        "far ids": {"x_adv": image, "ids": np.array([-1, 2**40])},
        "float ids": {"x_adv": image, "ids": np.array([0.5, 1.0])},
        "nothing of it": {"a": image},
        "not finite": {"x_adv": image + np.nan, "ids": np.arange(2)},
        "scalars": {"x_adv": np.float32(1), "ids": np.int64(0)},
    }
    for name, arrays in odd.items():
        stream = io.BytesIO()
        np.savez(stream, **arrays)
        yield name, stream.getvalue()
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(
            header, {"descr": "<f4", "fortran_order": False, "shape": (10**6, 3, 32, 32)}
        )
        archive.writestr("x_adv.npy", header.getvalue())
        archive.writestr("ids.npy", b"\x93NUMPY")
        archive.writestr("../PWNED", b"x")
    yield "a bomb", stream.getvalue()


CASES = dict(cases())
SOME = sorted(CASES)[:: max(len(CASES) // 24, 1)]


def beside(place: Path) -> set[Path]:
    return {path for path in place.rglob("*") if not path.is_relative_to(place / "results")}


def check(name: str, place: Path, robench: Run) -> None:
    line = CASES[name](place)
    before = beside(place)
    ran = robench(*line)
    assert ran.code in CODES, (name, ran)
    assert "Traceback" not in ran.err, (name, ran.err)
    assert beside(place) <= before, name


@pytest.mark.parametrize("name", SOME)
def test_some_hostile_files_end_in_a_sentence(
    name: str, place: Path, robench: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    check(name, place, robench)


@pytest.mark.slow
def test_all_hostile_files_end_in_a_sentence(place: Path, robench: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    assert len(CASES) >= 100
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for name in CASES:
        check(name, place, robench)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**20  # KiB
