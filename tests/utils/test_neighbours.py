"""What lies beside a user's file is what its imports mean, in each folder its own."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from robench.evaluation.target import load_model
from robench.search.catalog import attack
from robench.training import recipe
from robench.utils import neighbours, registry
from robench.utils.errors import UserError
from robench.utils.serialize import pack, unpack
from tests.helpers import Ran
from tests.utils.test_registry import MY_ATTACK, MY_DEFENSE


def write(folder: Path, **files: str) -> Path:
    """Python files, where "__" in a name is a folder's end, and `init` the file of a package."""
    for name, text in files.items():
        path = folder / f"{name.replace('__', '/').replace('init', '__init__')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


NET = """
from torch import nn
class Net(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Flatten(), nn.Linear(64, 10, bias=False))
        nn.init.constant_(self[1].weight, {value})
    def forward(self, x):
        return super().forward(x) * 1.0
"""

IMPORTING = {
    "from": "from utils import Net\ndef make(): return Net()",
    "import": "import utils\ndef make(): return utils.Net()",
    "as": "import utils as u\ndef make(): return u.Net()",
    "when called": "def make():\n    from utils import Net\n    return Net()",
    "relative": "from .utils import Net\ndef make(): return Net()",
    "relative to nothing": "from . import utils\ndef make(): return utils.Net()",
    "of a folder": "from models.wide import Net\ndef make(): return Net()",
    "of a folder, whole": "import models.wide\ndef make(): return models.wide.Net()",
    "through another": "from models.again import Net\ndef make(): return Net()",
}


def folder_of(path: Path, way: str, value: float) -> Path:
    net = NET.format(value=value)
    return write(
        path, factory=IMPORTING[way], utils=net, models__wide=net, models__again="from utils import Net as Net\n"
    )


@pytest.mark.parametrize("way", IMPORTING)
def test_two_folders_with_neighbours_of_one_name_each_have_their_own(way: str, tmp_path: Path) -> None:
    before, known = list(sys.path), set(sys.modules)
    folders = [folder_of(tmp_path / str(value), way, value) for value in (1.0, 2.0)]
    for _ in range(2):
        made = [load_model(f"{folder / 'factory.py'}:make").model for folder in folders]
        assert [float(net[1].weight[0, 0]) for net in made] == [1.0, 2.0]  # type: ignore[index]
    assert sys.path == before
    assert all(name.startswith(neighbours.PREFIX) for name in set(sys.modules) - known)


@pytest.mark.parametrize("way", IMPORTING)
def test_an_edited_neighbour_is_another_model(way: str, tmp_path: Path) -> None:
    folder = folder_of(tmp_path, way, 1.0)
    keys = [load_model(f"{folder / 'factory.py'}:make").key() for _ in range(2)]
    for path in (folder / "utils.py", folder / "models" / "wide.py"):
        path.write_text(path.read_text().replace("* 1.0", "* 3.0"))
    keys.append(load_model(f"{folder / 'factory.py'}:make").key())
    assert keys[0] == keys[1] != keys[2]


def test_what_a_pass_imports_is_in_the_key(tmp_path: Path) -> None:
    late = NET.replace("super().forward(x) * 1.0", "__import__('math') and self.late(x)")
    late += "    def late(self, x):\n        from models import scale\n        return scale.by(super().forward(x))\n"
    keys = []
    for factor in (2, 3, 2):
        write(tmp_path, net=late.format(value=1.0), models__scale=f"def by(x): return x * {factor}\n")
        keys.append(load_model(f"{tmp_path / 'net.py'}:Net").key())
    assert keys[0] == keys[2] != keys[1]


def test_the_key_is_of_no_place(tmp_path: Path) -> None:
    folders = [folder_of(tmp_path / name, "through another", 1.0) for name in ("here", "there")]
    keys = [load_model(f"{folder / 'factory.py'}:make").key() for folder in folders]
    assert keys[0] == keys[1]


def test_a_neighbour_stands_in_for_nothing_of_python_or_robench(tmp_path: Path) -> None:
    write(tmp_path, random="x = 1\n", robench__losses="x = 1\n", mine="import random\nfrom robench import losses\n")
    mine = registry.load_file(tmp_path / "mine.py")
    assert mine.random is sys.modules["random"]
    assert mine.losses is sys.modules["robench.losses"]


def test_a_folder_without_modules_of_its_own_gives_way_to_what_is_installed(tmp_path: Path) -> None:
    write(tmp_path, yaml__notes="x = 1\n", einops__init="here = True\n", mine="import yaml, einops\n")
    mine = registry.load_file(tmp_path / "mine.py")
    assert hasattr(mine.yaml, "safe_load")
    assert mine.einops.here


def test_a_package_is_imported_from_the_folder_above(tmp_path: Path) -> None:
    write(
        tmp_path,
        lib__init="",
        lib__nets__init="",
        lib__nets__net=NET.format(value=4.0),
        lib__common="scale = 5.0\n",
        lib__nets__make="from ..common import scale\nfrom lib.nets.net import Net\nimport net\nmake = Net\n",
    )
    path = tmp_path / "lib" / "nets" / "make.py"
    assert float(load_model(f"{path}:make").model[1].weight[0, 0]) == 4.0  # type: ignore[index]
    assert registry.load_file(path).scale == 5.0


def test_a_file_that_breaks_names_itself(tmp_path: Path) -> None:
    write(tmp_path, mine="import beside\n", beside="1 / 0\n")
    with pytest.raises(UserError, match=r"mine.py cannot be imported: ZeroDivisionError"):
        registry.load_file(tmp_path / "mine.py")
    write(tmp_path, beside="x = 1\n")
    assert registry.load_file(tmp_path / "mine.py").beside.x == 1


def test_attacks_and_defenses_find_theirs(tmp_path: Path) -> None:
    for name, steps in (("one", 3), ("two", 4)):
        folder = write(tmp_path / name, utils=f"STEPS = {steps}\n", my_defense=f"from utils import STEPS\n{MY_DEFENSE}")
        asking = f"from utils import STEPS\n{MY_ATTACK.replace('steps: int = 3', 'steps: int = STEPS')}"
        write(folder, my_attack=asking)
        assert attack(str(folder / "my_attack.py")).settings == {"steps": steps}
        assert recipe.resolve(str(folder / "my_defense.py"), "digits", (1, 8, 8), {}).defense is not None


def test_an_object_of_a_neighbour_travels_with_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = folder_of(tmp_path, "through another", 6.0)
    model = load_model(f"{folder / 'factory.py'}:make").model
    packed = pack(model, "it")
    with monkeypatch.context() as elsewhere:
        for name in [name for name in sys.modules if name.startswith(neighbours.PREFIX)]:
            elsewhere.delitem(sys.modules, name)
        found = unpack(packed, "it")
    assert type(found) is not type(model)
    assert float(found[1].weight[0, 0]) == 6.0


@pytest.mark.slow
def test_a_factory_with_neighbours_is_evaluated_by_workers(in_tmp: Path, robench: Callable[..., Ran]) -> None:
    folder_of(in_tmp / "a", "through another", 1.0)
    arguments = ("--model", "a/factory.py:make", "--attack", "fgsm", "--eps", "0.1", "--n", 20, "--workers", 2)
    ran = robench("eval", *arguments)
    assert ran.code == 0, ran.err
