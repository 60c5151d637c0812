"""Attacks models, and judges what others attacked them with."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from robench.data.datasets import DataSource
from robench.data.preparation import Side
from robench.evaluation.callable_attack import CallableAttack
from robench.evaluation.plan import (
    Evaluable,
    EvaluationOptions,
    SubjectOptions,
    plan_evaluation,
    plan_verification,
)
from robench.evaluation.run import EvaluationProgress
from robench.evaluation.run import run as run_evaluation
from robench.evaluation.shards import Scale
from robench.evaluation.target import Subject
from robench.evaluation.verification import Adversarial, Verification
from robench.ledger.summary import Summary
from robench.search.catalog import attack as configured_attack
from robench.specs.choices import EvaluationProtocol, Mode, Precision
from robench.utils.arguments import checked
from robench.utils.sizes import Size


@checked
def attack(name: str) -> CallableAttack:
    """Returns the attack of that name, such as "pgd-20", "pgd-20:restarts=5" or "FILE.py:key=value", as a function.

    Raises UserError where there is no such attack or setting.
    """
    return CallableAttack(name, configured_attack(name))


@checked
@torch.inference_mode(False)
def evaluate(
    model: Evaluable,
    *,
    suite: str | None = None,
    attacks: Sequence[str] = (),
    dataset: DataSource | None = None,
    resize: Side | None = None,
    crop: Side | None = None,
    data_root: Path | str = "data",
    download: bool = False,
    eps: Size | None = None,
    norm: str | None = None,
    arch: str | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    weights: str | None = None,
    n: int | None = None,
    sources: Sequence[str | Path | nn.Module | Subject] = (),
    mode: Mode | None = None,
    protocol: EvaluationProtocol = "adaptive",
    draws: int | None = None,
    seed: int = 0,
    device: str | None = None,
    batch_size: int | None = None,
    precision: Precision = "auto",
    save_adversarial: Path | str | None = None,
    workers: int = 1,
    executor: str | None = None,
    part: str | None = None,
    timeout: str | float | None = None,
    results: Path | str = "results",
    progress: EvaluationProgress | None = None,
) -> Summary:
    """Attacks a model with a battery and returns its accuracies; outcomes go to the ledger, and come from it.

    model: a checkpoint's path, "FACTORY.py:function" (runs that code), a name such as "torchvision:resnet50",
        "timm:NAME", "hf:DIR_OR_NAME" or "robustbench:NAME", an nn.Module on images [B, C, H, W] in [0, 1], or a
        function on arrays: float32 images [B, C, H, W] -> scores [B, classes] or labels [B], for attacks without
        gradients.
    suite, attacks: a named list of attacks, and attacks beside it, such as "pgd-20:restarts=5" or "FILE.py:key=value";
        by default the suite quick, or black_box where the model gives no gradient.
    dataset: its test images, by default the checkpoint's data set, else the digits: a name or word, see `robench list
        datasets`; a pathlib.Path to a file or folder of any of these kinds; (x, y), images [N, C, H, W], [N, H, W, C]
        or [N, H, W] in [0, 1] or of 8 or 16 bits and labels [N], as tensors or arrays; a Dataset of torch, or a
        DataLoader that does not shuffle; {"train": ..., "test": ...} of any of these.
    resize, crop: its images go through torchvision's Resize and CenterCrop: 256 is the shorter side, (224, 224) or
        "224x224" a height and a width.
    data_root, download: the folder of torchvision's sets; whether to fetch what is missing there, and of a model by its
        name.
    eps, norm: the radius, and "linf" or "l2".
    arch: the architecture of a file of weights: a name, or "FILE.py:NAME" of a function or class (runs that code).
    mean, std: normalise the input of any model, in each channel; a file that holds its own must not be contradicted.
    weights: where a file holds several that fit, the key of those to take, such as "ema".
    n: the first n examples; all by default.
    sources: models for attacks by transfer.
    mode: "columns", every attack on every example, or "worst-case", only on those that no earlier attack broke; by
        default the suite's.
    protocol: "adaptive", or "static": the attacker leaves out the model's test-time transform.
    draws: passes whose mean an attack on a stochastic model sees, by default 10.
    seed: of all random numbers, from 0 to 2**31 - 1.
    device: "cpu" or "cuda"; by default CUDA where there is one.
    batch_size: examples attacked together, by default 128, and 512 on CUDA.
    precision: of gradients, "auto", "float32" or "bfloat16"; what they find is judged in float32.
    save_adversarial: a folder for x_adv, an .npz for each attack.
    workers, executor: several workers share the examples of each attack: processes of this machine, which a script
        starts under `if __name__ == "__main__":`, or with executor="ray" Ray's.
    part: "2/4" runs the second of four parts of the examples.
    timeout: of each attack, such as "10m" or a number of seconds: examples that it has not come to by then are noted as
        errors, and the next attack is run. It runs in a process of its own, as with several workers.
    results: the folder of the ledger.
    progress: is told how it goes.

    Raises UserError where something asked for does not exist or cannot be done on this model.
    """
    scale = Scale.of(workers, executor, part, timeout)
    options = EvaluationOptions(
        suite=suite,
        attacks=attacks,
        dataset=dataset,
        resize=resize,
        crop=crop,
        data_root=data_root,
        download=download,
        eps=eps,
        norm=norm,
        arch=arch,
        mean=mean,
        std=std,
        weights=weights,
        n=n,
        sources=sources,
        mode=mode,
        protocol=protocol,
        draws=draws,
        seed=seed,
        device=device,
        batch_size=batch_size,
        precision=precision,
    )
    return run_evaluation(plan_evaluation(model, options), results, progress, save_adversarial, scale)


@checked
@torch.inference_mode(False)
def verify(
    model: Evaluable,
    adversarial: Adversarial,
    *,
    dataset: DataSource | None = None,
    resize: Side | None = None,
    crop: Side | None = None,
    data_root: Path | str = "data",
    download: bool = False,
    eps: Size | None = None,
    norm: str | None = None,
    arch: str | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    weights: str | None = None,
    device: str | None = None,
    eight_bit: bool = False,
) -> Verification:
    """Judges adversarial examples that someone else made.

    adversarial: an .npz file, or a dictionary, with x_adv [N, C, H, W] in [0, 1], and x [N, C, H, W] and y [N], or ids
        [N]: rows of the data set's test images; or x_adv alone, of its first N.
    eight_bit: x_adv is rounded to uint8 and back first.

    The other keywords are those of `evaluate`. Raises UserError where the file is not such a one, or does not fit the
    data set.
    """
    options = SubjectOptions(
        dataset=dataset,
        resize=resize,
        crop=crop,
        data_root=data_root,
        download=download,
        eps=eps,
        norm=norm,
        arch=arch,
        mean=mean,
        std=std,
        weights=weights,
        device=device,
    )
    return plan_verification(model, adversarial, options, eight_bit=eight_bit)()
