"""The judge: it alone says what is a success, and says the same in any company."""

import pytest
import torch

from robench.search.classifier import Classifier
from robench.search.judge import BATCH_SIZE, Judge
from robench.threat import ThreatModel
from tests.helpers import Linear, adversary, linear_case

THREAT = ThreatModel.of("linf", 0.05)


def test_the_judge_gives_the_same_verdicts_whatever_else_it_judges() -> None:
    model, x, y = linear_case(10, examples=2 * BATCH_SIZE + 3)
    judge = Judge(Classifier(model), THREAT)
    x_adv = (x + 0.049 * torch.randn_like(x).sign()).clamp(0, 1)
    whole = judge(x_adv, x, y)
    for index in (0, 7, BATCH_SIZE, 2 * BATCH_SIZE + 2):
        one = judge(x_adv[index : index + 1], x[index : index + 1], y[index : index + 1])
        assert torch.equal(one.margin, whole.margin[index : index + 1])
        assert one.prediction == whole.prediction[index]


@pytest.mark.parametrize("fault", ["ball", "box", "nan"])
def test_the_judge_itself_refuses_what_is_outside_the_threat(fault: str) -> None:
    model, x, y = linear_case(2)
    if fault == "box":
        x = torch.ones_like(x)
    far = {"ball": adversary(model, x, y, 0.2), "box": x + 0.04, "nan": torch.full_like(x, torch.nan)}[fault]
    wrong = 1 - model(far).argmax(1)  # a label that makes every one of them misclassified
    verdicts = Judge(Classifier(model), THREAT)(far, x, wrong)
    assert not verdicts.valid.any()
    assert not verdicts.fooled.any()
    assert Judge(Classifier(model), THREAT)(x, x, 1 - model(x).argmax(1)).fooled.all()


def test_a_tie_is_unstable() -> None:
    model = Linear(torch.zeros(2, 16), torch.zeros(2))
    x = torch.rand(3, 1, 4, 4)
    verdicts = Judge(Classifier(model), THREAT)(x, x, torch.tensor([0, 1, 1]))
    assert verdicts.fooled.tolist() == [False, True, True]
    assert verdicts.unstable.tolist() == [False, True, True]
