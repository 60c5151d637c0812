"""Where attacks and defenses are found: ours, the users', and in an installed wheel."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from robench.search.catalog import attack, suite
from robench.training import recipe
from robench.utils import registry
from robench.utils.errors import UserError
from robench.utils.fingerprints import source_fingerprint

ROOT = Path(__file__).parents[1]

MY_ATTACK = '''
from robench.losses import cross_entropy
from robench.access import sees
from robench.search.search import Search

@sees("gradients")
def my_attack(search: Search, *, steps: int = 3) -> None:
    """Mine."""
    at = search.state(x=search.x)
    for _ in search.steps(steps):
        at.x = search.project(at.x + search.eps * search.gradient(at.x, cross_entropy).sign())
    search.offer(at.x)
'''

MY_DEFENSE = """
from dataclasses import dataclass
import torch.nn.functional as F
from robench.training.defense import Batch, Defense, Step
from robench.defenses.trades import Trades

@dataclass(frozen=True)
class Mine(Defense):
    strength: float = 1.0

    def losses(self, batch: Batch, step: Step):
        return {"model": self.strength * F.cross_entropy(step.model(batch.x), batch.y)}
"""


def test_a_users_attack_has_the_form_of_ours(tmp_path: Path) -> None:
    path = tmp_path / "my_attack.py"
    path.write_text(MY_ATTACK)
    configured = attack(f"{path}:steps=7")
    assert (configured.name, configured.settings) == ("my_attack:steps=7", {"steps": 7})


def test_a_users_defense_has_the_form_of_ours(tmp_path: Path) -> None:
    path = tmp_path / "my_defense.py"
    path.write_text(MY_DEFENSE)
    resolved = recipe.resolve(str(path), "mnist", (1, 28, 28), {"strength": 0.5, "epochs": 3})
    assert type(resolved.defense).__name__ == "Mine"
    assert resolved.setup.arch == "small_cnn"
    assert resolved.describe()["settings"] == {"strength": 0.5}
    svhn = recipe.resolve(str(path), "svhn", (3, 32, 32), {})
    assert (svhn.settings_of, svhn.threat.eps_written, svhn.setup.augment) == ("svhn", "4/255", [])
    assert recipe.resolve(str(path), "npz:x", (3, 9, 9), {}).settings_of == "cifar10"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("syntax error here", "cannot be imported"),
        ("def other(search): ...", "expected a function my_attack"),
        ("def my_attack(search): ...", "@sees"),
    ],
)
def test_a_users_attack_that_is_none(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "my_attack.py").write_text(text)
    with pytest.raises(UserError, match=message):
        attack(str(tmp_path / "my_attack.py"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1", "expected one subclass of Defense"),
        (MY_DEFENSE.replace("def losses", "def nothing"), "losses"),
        (MY_DEFENSE.replace("strength: float = 1.0", "strength: float"), "no default"),
        (MY_DEFENSE.replace("strength", "lr"), "lr is a setting of the training"),
    ],
)
def test_a_users_defense_that_is_none(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "my_defense.py").write_text(text)
    with pytest.raises(UserError, match=message):
        recipe.resolve(str(tmp_path / "my_defense.py"), "digits", (1, 8, 8), {})


def test_every_suite_names_attacks_that_exist() -> None:
    for name in registry.names("benchmarks", "suites/*.yaml"):
        for written in suite(name).attacks:
            attack(written)


def test_every_benchmark_parses() -> None:
    from robench.specs import benchmark

    for name in benchmark.names():
        assert benchmark.load(name).eps


def test_every_attack_and_defense_is_one_page() -> None:
    for folder in ("attacks", "defenses"):
        for path in (ROOT / folder).glob("*.py"):
            limit = 64 if folder == "attacks" else 160
            assert len(path.read_text().splitlines()) <= limit, path


def test_whatever_people_read_is_made_without_torch() -> None:
    program = (
        "import importlib, pkgutil, sys, robench.reports as package\n"
        "names = [found.name for found in pkgutil.walk_packages(package.__path__, 'robench.reports.')]\n"
        "for name in ('robench.cli.main', *names): importlib.import_module(name)\n"
        "assert 'torch' not in sys.modules; print(len(names))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 20


def test_a_folder_called_attacks_in_the_working_directory_shadows_nothing(tmp_path: Path) -> None:
    for folder in ("attacks", "defenses"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "__init__.py").write_text("raise SystemExit('the wrong one')")
        (tmp_path / folder / "pgd.py").write_text("raise SystemExit('the wrong one')")
    program = "import robench.attacks.pgd, robench.defenses.trades; print(robench.attacks.pgd.pgd.access)"
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout == "gradients\n", done.stderr


def test_the_wheel_carries_the_folders_and_runs_without_the_checkout(tmp_path: Path) -> None:
    built = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert built.returncode == 0, built.stderr
    (wheel,) = tmp_path.glob("*.whl")
    installed = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(installed)
    page = ROOT / "robench" / "reports" / "page"
    assert {path.name for path in page.iterdir() if path.is_file()} <= {
        path.name for path in (installed / "robench" / "reports" / "page").iterdir()
    }
    (installed / "attacks").mkdir()  # somebody else's
    program = (
        f"import sys; sys.path.insert(0, {str(installed)!r})\n"
        "from robench.training import recipe\n"
        "from robench.utils import registry\n"
        "from robench.search.catalog import attack, suite\n"
        "name = recipe.resolve('trades', 'digits', (1, 8, 8), {}).name\n"
        f"assert str(registry.folder('attacks')).startswith({str(installed)!r})\n"
        "print(len(suite('quick').attacks), attack('pgd-20').name, name)"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout == "5 pgd-20 trades\n", done.stderr


def test_the_versions_of_an_attacks_libraries_are_in_its_key() -> None:
    from importlib.metadata import version

    assert attack("square").key()["libraries"] == {"pyautoattack": version("pyautoattack")}
    assert attack("pgd-20").key()["libraries"] == {}


def test_the_source_hash_sees_code_and_nothing_else(tmp_path: Path) -> None:
    texts = {
        "a": '"""Doc."""\ndef f(x):\n    """Doc."""\n    return x + 1\n',
        "b": "# comment\ndef f( x ):\n    return x+1\n",
        "c": "def f(x):\n    return x - 1\n",
    }
    hashes = []
    for name, text in texts.items():
        (tmp_path / f"{name}.py").write_text(text)
        hashes.append(source_fingerprint([tmp_path / f"{name}.py"]))
    assert hashes[0] == hashes[1] != hashes[2]
