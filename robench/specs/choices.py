"""Words of a fixed set that commands, YAML files and Python share, and the default data set; no torch."""

from typing import Literal

Mode = Literal["columns", "worst-case"]
"""Every attack on every example, or each on the survivors of the cheaper ones: the same worst case, for less."""

EvaluationProtocol = Literal["adaptive", "static"]
"""Whether the attacker sees the test-time transform, or attacks the model without it."""

Precision = Literal["auto", "float32", "bfloat16"]
"""Of the passes of attacks that take gradients; what they find is judged in float32."""

DATASET = "digits"
"""The data set where none is named: it comes with scikit-learn."""

TORCHSCRIPT = "torchscript"
"""The architecture's word by which the program in a TorchScript archive is run."""
