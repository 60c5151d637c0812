"""Where attacks and defenses are found: ours and the users'."""

from pathlib import Path

import pytest

from robench.search.catalog import attack
from robench.training import recipe
from robench.utils.errors import UserError
from tests import ROOT

MY_ATTACK = '''
from robench.losses import cross_entropy
from robench.search import sees
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


def test_every_attack_and_defense_is_one_page() -> None:
    for folder in ("attacks", "defenses"):
        for path in (ROOT / folder).glob("*.py"):
            limit = 64 if folder == "attacks" else 160
            assert len(path.read_text().splitlines()) <= limit, path
