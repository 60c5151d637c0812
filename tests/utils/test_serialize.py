"""What travels to other processes, and what cannot."""

import sys
from pathlib import Path
from types import ModuleType

import pytest

from robench.evaluation.plan import EvaluationOptions, plan_evaluation
from robench.utils import neighbours
from robench.utils.errors import UserError
from robench.utils.serialize import pack, unpack


def test_a_class_that_the_other_process_lacks_is_said() -> None:
    elsewhere = ModuleType("elsewhere")
    elsewhere.Thing = type("Thing", (), {"__module__": "elsewhere"})  # type: ignore[attr-defined]
    sys.modules["elsewhere"] = elsewhere
    packed = pack(elsewhere.Thing(), "mine")
    del sys.modules["elsewhere"]
    with pytest.raises(UserError, match=r"mine cannot be rebuilt in another process .*elsewhere"):
        unpack(packed, "mine")


def test_what_a_users_file_defines_travels_by_the_file(in_tmp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (in_tmp / "nets.py").write_text(
        "from torch import nn\nclass Net(nn.Linear): ...\ndef net(): return nn.Sequential(nn.Flatten(), Net(64, 10))\n"
    )
    evaluation = plan_evaluation("nets.py:net", EvaluationOptions(attacks=["foolbox:LinfPGD:steps=2"], eps=0.1))
    packed = pack(evaluation, "it")
    with monkeypatch.context() as elsewhere:
        elsewhere.delitem(sys.modules, neighbours.name_of(Path("nets.py"), in_tmp.resolve()))
        found = unpack(packed, "it")
    ours, theirs = (type(list(each.subject.model.children())[1]) for each in (evaluation, found))
    assert (theirs.__name__, theirs is ours) == ("Net", False)
    assert found.attacks[0].name == "foolbox:LinfPGD:steps=2"
    assert found.key(found.attacks[0]) == evaluation.key(evaluation.attacks[0])
