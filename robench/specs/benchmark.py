"""What a benchmark says: which defenses and checkpoints to train, against which attacks, and what else to measure.

benchmarks/NAME.yaml is one; benchmarks/papers/ID.yaml is one too, with what it takes to lay its runs out as the paper's
table or figure. No torch is imported here: what only reads results reads these as well.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from robench.specs.choices import DATASET
from robench.utils import registry
from robench.utils.errors import UserError, unknown
from robench.utils.registry import Strict
from robench.utils.sizes import Size

Settings = dict[str, Any]


class TrainedDefense(Strict):
    """A recipe with changes to its settings, as `--set` makes them. `init` names a defense that stands before it: it
    starts from that one's checkpoint of the same seed. `dataset` is what it trains on in place of the benchmark's."""

    defense: str
    dataset: str | None = None
    init: str | None = None
    settings: Settings = Field(default={}, alias="set")


Entry = str | TrainedDefense


class Benchmark(Strict):
    """`models` are checkpoints that exist, `sources` those to transfer attacks from (`each`: every other model of the
    benchmark, one at a time); one adapted to a `target_domain` is evaluated there; `also` are further data sets with
    their radii; `train` changes the settings of all defenses; `radii`, such as 2*eps, are evaluated at in place of eps.
    `measure` and `once` name what to measure for figures, on each model and on none, with its settings."""

    dataset: str = DATASET
    also: dict[str, Size] = {}
    norm: Literal["linf", "l2"] = "linf"
    eps: Size | None = None
    radii: list[Size] = ["eps"]
    suite: str | None = None
    attacks: list[str] = []
    defenses: list[Entry] = []
    models: list[str] = []
    sources: list[str] | Literal["each"] = []
    seeds: list[int] = [0]
    n: int | None = None
    limit: int | None = None
    epochs: int | None = None
    train: Settings = {}
    measure: dict[str, Settings] = {}
    once: dict[str, Settings] = {}

    @property
    def battery(self) -> list[str]:
        """The attacks it names beside its suite's."""
        return self.attacks

    @property
    def trained(self) -> list[TrainedDefense]:
        """The defenses it trains."""
        return [trained(entry) for entry in self.defenses]


class Exhibit(Benchmark):
    """A table or figure of a paper."""

    title: str
    paper: str


class Table(Exhibit):
    """`rows`: what is printed before each line, with the defense that robench trains for it (none: only published);
    `columns`: what is printed above each, with the attack, `clean` or `worst_case`; "transfer-fgsm from standard" is
    the attack from a source so trained. `protocol`: the paper's arch and epochs, against which runs are held."""

    rows: dict[str, Entry | None]
    columns: dict[str, str]
    protocol: Settings = {}

    @property
    def battery(self) -> list[str]:
        named = [attack.partition(" from ")[0] for attack in self.columns.values()]
        return [name for name in dict.fromkeys([*self.attacks, *named]) if name not in ("clean", "worst_case")]

    @property
    def trained(self) -> list[TrainedDefense]:
        """Those of the rows, after those that they start from."""
        return [*super().trained, *(trained(entry) for entry in self.rows.values() if entry is not None)]


class Figure(Exhibit):
    """`draw`: the file of robench/reports/figures/ that draws it, with its settings."""

    draw: str
    settings: Settings = {}


def trained(entry: Entry) -> TrainedDefense:
    return TrainedDefense(defense=entry) if isinstance(entry, str) else entry


def names() -> list[str]:
    """Of ours, but for the queues."""
    files = ((name, registry.folder("benchmarks") / f"{name}.yaml") for name in registry.names("benchmarks", "*.yaml"))
    return [name for name, path in files if not is_queue(registry.read_yaml(path))]


def is_queue(block: Any) -> bool:
    """Whether a file of benchmarks/ is what `robench.specs.queue` reads."""
    return isinstance(block, dict) and "queue" in block


def exhibits(kind: type[Table] | type[Figure]) -> list[str]:
    """The ids of the tables, or of the figures."""
    return [name for name, block in _papers() if _kind(block) is kind]


def load(name: str) -> Benchmark:
    """A benchmark of ours by name, a table or figure by its id, or a user's .yaml file by its path."""
    if name.endswith((".yaml", ".yml")):
        path = Path(name)
    else:
        folder = registry.folder("benchmarks")
        found = [path for path in (folder / f"{name}.yaml", folder / "papers" / f"{name}.yaml") if path.is_file()]
        if not found:
            raise unknown("benchmark", name, [*names(), *(paper for paper, _ in _papers())])
        path = found[0]
    block = _whole(registry.read_yaml(path))
    if is_queue(block):
        raise UserError(f"{name} is a queue, not a benchmark; robench reproduce runs it")
    return registry.parse(_kind(block), block, f"benchmark {name}")


def load_exhibit(kind: type[Table] | type[Figure], name: str) -> Any:
    """A table or a figure by its id."""
    if name not in exhibits(kind):
        raise unknown(kind.__name__.lower(), name, exhibits(kind))
    return load(name)


def _whole(block: Any) -> Any:
    """With what the benchmark it is `like` says and it does not."""
    if not isinstance(block, dict) or "like" not in block:
        return block
    base = registry.folder("benchmarks") / f"{block['like']}.yaml"
    if not base.is_file():
        raise unknown("benchmark", str(block["like"]), names())
    return {**_whole(registry.read_yaml(base)), **{key: value for key, value in block.items() if key != "like"}}


def _kind(block: Any) -> type[Benchmark]:
    """By what only a table or a figure says."""
    if isinstance(block, dict) and "rows" in block:
        return Table
    return Figure if isinstance(block, dict) and "draw" in block else Benchmark


def _papers() -> Iterator[tuple[str, Any]]:
    for path in sorted((registry.folder("benchmarks") / "papers").glob("*.yaml")):
        yield path.stem, registry.read_yaml(path)
