"""The command `train`."""

from pathlib import Path
from typing import Annotated

import typer

from robench.cli.options import (
    DATA_ROOT,
    RESULTS,
    ArchOption,
    CropOption,
    DataRootOption,
    DeviceOption,
    DownloadOption,
    EpsOption,
    LabelsOption,
    NormOption,
    ResizeOption,
    ResultsOption,
    TargetOption,
    WeightsOption,
)
from robench.cli.output import only_results
from robench.specs.choices import DATASET


def train(
    defense: Annotated[str, typer.Option(help="A recipe's name, or a .py file with a Defense.")],
    dataset: Annotated[str, typer.Option(help="A name, or FORM:PATH: robench list datasets.")] = DATASET,
    resize: ResizeOption = None,
    crop: CropOption = None,
    data_root: DataRootOption = DATA_ROOT,
    download: DownloadOption = False,
    arch: ArchOption = None,
    eps: EpsOption = None,
    norm: NormOption = None,
    epochs: Annotated[int | None, typer.Option(help="Length; drops of the learning rate scale with it.")] = None,
    limit: Annotated[int | None, typer.Option(help="Train on the first N images only.")] = None,
    labels: LabelsOption = None,
    target: TargetOption = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="key=value, of the defense or the training.")] = None,
    init: Annotated[Path | None, typer.Option(help="A file of weights to start from.")] = None,
    weights: WeightsOption = None,
    out: Annotated[Path | None, typer.Option(help="The checkpoint to write.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an interrupted training.")] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Train anew where a checkpoint, or a state, is there already.")
    ] = False,
    seed: int = 0,
    device: DeviceOption = None,
    precision: Annotated[str, typer.Option(help="float32 or bfloat16.")] = "float32",
    tensorboard: Annotated[Path | None, typer.Option(help="A folder for TensorBoard's events.")] = None,
    results: ResultsOption = RESULTS,
) -> None:
    """Train one defense by its recipe."""
    from robench.cli import words

    words.check(defenses=[defense], dataset=dataset, arch=arch, norm=norm, eps=eps, device=device)
    from robench.cli.console import TrainingConsole, stderr, working

    with working("loading torch"):
        from robench.training import interruption, loop
        from robench.training.distributed import is_main, leave
        from robench.training.plan import checkpoint_path, plan_training
        from robench.training.start import check_start
        from robench.training.tensorboard import TensorBoardProgress
        from robench.utils.device import resolve_device
        from robench.utils.settings import assignment
    stderr.quiet = stderr.quiet or not is_main()
    with working(f"reading {dataset}"), only_results():
        plan = plan_training(
            defense,
            dataset=dataset,
            resize=resize,
            crop=crop,
            data_root=data_root,
            download=download,
            arch=arch,
            eps=eps,
            norm=norm,
            epochs=epochs,
            limit=limit,
            labels=labels,
            target=target,
            settings=dict(assignment(text) for text in set_ or []),
            init=init,
            weights=weights,
            seed=seed,
            precision=precision,
        )
    path = out or checkpoint_path(plan, results)
    check_start(path, resume=resume, overwrite=overwrite)
    resolved = resolve_device(device)
    stderr.print(f"{plan.recipe.name} on {dataset} (settings for {plan.recipe.settings_of}), seed {seed}, {resolved}")
    described = plan.recipe.describe()
    for block in ("settings", "setup"):
        stderr.print(f"  {block}: " + ", ".join(f"{key}={value}" for key, value in described[block].items()))
    progress: loop.TrainingProgress = TrainingConsole()
    if tensorboard is not None:
        progress = TensorBoardProgress(tensorboard, progress)
    with working("training"), only_results():
        card = interruption.train(plan, path, device=resolved, resume=resume, progress=progress)
    best = card.metrics["best"]
    held_out = f": clean {best['clean']:.3f}, PGD-10 {best['robust']:.3f} on held-out images" if "clean" in best else ""
    stderr.print(f"kept epoch {best['epoch']}{held_out}")
    if is_main():
        print(path)
    leave()
