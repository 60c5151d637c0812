"""The static protocol: the attack sees the model without its transform, the deployed one is scored."""

from robench.benchmarking.measure.attacked_accuracy import measure
from robench.evaluation.plan import EvaluationOptions, plan_evaluation
from robench.evaluation.target import Subject
from robench.search.catalog import attack
from tests.broken import Quantised
from tests.helpers import Trained


def test_the_attack_sees_the_model_without_its_transform(digits_model: Trained) -> None:
    """The transform has no gradient: attacked itself it would stand, its bare model's examples break it."""
    deployed = Quantised(digits_model.model)
    options = EvaluationOptions(attacks=["pgd-20"], dataset="digits", eps=0.2, n=40)
    whole = plan_evaluation(Subject(deployed, "deployed", "x", undefended=digits_model.model), options)
    right, n = measure(whole, attacks=[attack("pgd-20")])["attacks"]["pgd-20"]
    assert n == 40
    assert right < 20
    bare = plan_evaluation(Subject(digits_model.model, "bare", "x"), options)
    assert measure(bare, attacks=[attack("pgd-20")]) == {"attacks": {}}
