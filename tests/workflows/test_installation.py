"""What is imported, from where, and what an installed wheel holds."""

import subprocess
import sys
import zipfile
from pathlib import Path

from tests import ROOT


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
    program = "import robench.attacks.pgd, robench.defenses.trades; print(robench.attacks.pgd.pgd.declaration.access)"
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
    assert not (installed / "robench" / "benchmarks" / "speed").exists()
    (installed / "attacks").mkdir()  # somebody else's
    program = (
        f"import sys; sys.path.insert(0, {str(installed)!r})\n"
        "from robench.training import recipe\n"
        "from robench.utils import registry\n"
        "from robench.search.catalog import attack; from robench.specs.suite import suite\n"
        "name = recipe.resolve('trades', 'digits', (1, 8, 8), {}).name\n"
        f"assert str(registry.folder('attacks')).startswith({str(installed)!r})\n"
        "print(len(suite('quick').attacks), attack('pgd-20').name, name)"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout == "6 pgd-20 trades\n", done.stderr
