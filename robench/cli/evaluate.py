"""The commands that take one model: `eval` attacks it, `verify` judges adversarial examples of it."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from robench.cli.options import (
    DATA_ROOT,
    RESULTS,
    ArchOption,
    CropOption,
    DataRootOption,
    DatasetOption,
    DeviceOption,
    DownloadOption,
    EpsOption,
    FormatOption,
    MeanOption,
    ModelOption,
    NormOption,
    ResizeOption,
    ResultsOption,
    StdOption,
    TimeoutOption,
    WeightsOption,
    WorkersOption,
)
from robench.cli.output import emit, only_results
from robench.reports.formats import Format
from robench.specs.choices import EvaluationProtocol, Mode, Precision
from robench.utils.errors import UserError

if TYPE_CHECKING:
    from robench.evaluation.evaluation import Evaluation
    from robench.evaluation.shards import Scale
    from robench.ledger.summary import Summary


def evaluate(
    model: ModelOption,
    suite: Annotated[str | None, typer.Option(help="A named list of attacks.")] = None,
    attack: Annotated[list[str] | None, typer.Option(help="An attack's name, or FILE.py:key=value,...")] = None,
    dataset: DatasetOption = None,
    resize: ResizeOption = None,
    crop: CropOption = None,
    data_root: DataRootOption = DATA_ROOT,
    download: DownloadOption = False,
    eps: EpsOption = None,
    norm: NormOption = None,
    arch: ArchOption = None,
    mean: MeanOption = None,
    std: StdOption = None,
    weights: WeightsOption = None,
    n: Annotated[int | None, typer.Option(help="The first N examples.")] = None,
    source: Annotated[
        list[str] | None,
        typer.Option(help="A model to transfer attacks from, as --model, or 'FILE;arch=NAME;mean=...;weights=KEY'."),
    ] = None,
    mode: Annotated[
        Mode | None, typer.Option(help="Every attack on every example, or only on survivors; by default the suite's.")
    ] = None,
    protocol: Annotated[
        EvaluationProtocol, typer.Option(help="Whether the attacker sees a test-time transform, or attacks without it.")
    ] = "adaptive",
    draws: Annotated[
        int | None, typer.Option(help="Passes whose mean an attack on a stochastic model sees, by default 10.")
    ] = None,
    seed: int = 0,
    device: DeviceOption = None,
    batch_size: Annotated[int | None, typer.Option(help="Examples attacked together.")] = None,
    precision: Annotated[Precision, typer.Option(help="Of gradients; what they find is judged in float32.")] = "auto",
    fail_under: Annotated[
        float | None, typer.Option(help="Exit 1 unless the worst case's lower end reaches this, from 0 to 1.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print passes and time, and attack nothing.")] = False,
    save_adversarial: Annotated[Path | None, typer.Option(help="A folder for x_adv, an .npz for each attack.")] = None,
    workers: WorkersOption = 1,
    timeout: TimeoutOption = None,
    executor: Annotated[
        str | None, typer.Option(help="What runs the workers: processes, or ray (on the cluster at RAY_ADDRESS).")
    ] = None,
    part: Annotated[
        str | None, typer.Option(help="i/k: only the i-th of k parts of the examples, into a shared results folder.")
    ] = None,
    format: FormatOption = "table",
    results: ResultsOption = RESULTS,
) -> None:
    """Attack a model with a battery and report its worst case."""
    refuse_launcher()
    _check_gate(fail_under)
    from robench.cli import words

    words.check(
        model=model,
        suite=suite,
        attacks=attack or (),
        dataset=dataset,
        arch=arch,
        norm=norm,
        eps=eps,
        device=device,
    )
    from robench.cli.console import EvaluationConsole, working

    with working("loading torch"):
        from robench.evaluation.plan import EvaluationOptions, plan_evaluation
        from robench.evaluation.run import run
        from robench.evaluation.shards import Scale

    scale = Scale.of(workers, executor, part, timeout)
    if part and fail_under is not None:
        raise UserError(f"part {part} is not all that --fail-under judges; give it in a run of the whole")
    with working(f"reading {model}"), only_results():
        options = EvaluationOptions(
            suite=suite,
            attacks=attack or (),
            dataset=dataset,
            resize=resize,
            crop=crop,
            data_root=data_root,
            download=download,
            eps=eps,
            norm=norm,
            arch=arch,
            mean=_numbers(mean),
            std=_numbers(std),
            weights=weights,
            n=n,
            sources=source or (),
            mode=mode,
            protocol=protocol,
            draws=draws,
            seed=seed,
            device=device,
            batch_size=batch_size,
            precision=precision,
        )
        planned = plan_evaluation(model, options)
    _announce(planned)
    if dry_run:
        _print_costs(planned, results, format)
        return
    with working("attacking"), only_results():
        summary = run(planned, results, EvaluationConsole(), save_adversarial, scale)
    if part:
        _tell_part(part, scale, planned, summary)
    _print_evaluation(summary, format, fail_under)


def _announce(planned: "Evaluation") -> None:
    from robench.cli.console import stderr

    for notice in planned.subject.notices:
        stderr.print(notice)
    stderr.print(
        f"{planned.subject.name} ({planned.subject.arch}) on {len(planned.wanted)} of {planned.split.name}, "
        f"{planned.threat}, {', '.join(configured.name for configured in planned.attacks)}, {planned.device}"
    )


def _print_costs(planned: "Evaluation", results: Path, format: Format) -> None:
    from robench.cli import text
    from robench.cli.console import working
    from robench.evaluation.estimate import estimate
    from robench.ledger.store import Ledger

    with working("timing a few passes"), only_results():
        costs = estimate(planned, Ledger(results))
    emit(text.costs(costs, format))


def _tell_part(part: str, scale: "Scale", planned: "Evaluation", summary: "Summary") -> None:
    from robench.cli.console import stderr

    ran, everything = scale.ids(planned.wanted, planned.batch_size), len(planned.wanted)
    rest = "" if summary.n == everything else "; the other parts have the rest"
    stderr.print(
        f"part {part}, examples {ran.start} to {ran.stop - 1}, is done: under every attack the ledger has "
        f"{summary.n} of {everything}{rest}"
    )


def _print_evaluation(summary: "Summary", format: Format, fail_under: float | None) -> None:
    """Exits with 1 where an attack ended in an error, or the gate failed."""
    from robench.cli.console import stderr
    from robench.reports import report

    emit(report.evaluation(summary, format))
    failures = report.failures(summary)
    for sentence in failures:
        stderr.print(sentence)
    failed = [] if fail_under is None else report.gate_failures(summary, fail_under)
    if failed:
        stderr.print(f"the gate failed: {', and '.join(failed)}")
    if failed or failures:
        raise typer.Exit(1)


def verify(
    model: ModelOption,
    adversarial: Annotated[Path, typer.Option(help="An .npz with x_adv, and x and y or ids (rows of the data set).")],
    dataset: DatasetOption = None,
    resize: ResizeOption = None,
    crop: CropOption = None,
    data_root: DataRootOption = DATA_ROOT,
    download: DownloadOption = False,
    eps: EpsOption = None,
    norm: NormOption = None,
    arch: ArchOption = None,
    mean: MeanOption = None,
    std: StdOption = None,
    weights: WeightsOption = None,
    device: DeviceOption = None,
    eight_bit: Annotated[bool, typer.Option("--eight-bit", help="Round x_adv to uint8 and back first.")] = False,
    format: Annotated[Format, typer.Option(help="Of what goes to standard output; csv has a row an example.")] = (
        "table"
    ),
) -> None:
    """Judge adversarial examples made elsewhere."""
    from robench.cli import words

    words.check(model=model, dataset=dataset, arch=arch, norm=norm, eps=eps, device=device)
    from robench.cli.console import stderr, working

    with working("loading torch"):
        from robench.cli import text
        from robench.evaluation.plan import SubjectOptions, plan_verification
    with working(f"judging {adversarial}"), only_results():
        options = SubjectOptions(
            dataset=dataset,
            resize=resize,
            crop=crop,
            data_root=data_root,
            download=download,
            eps=eps,
            norm=norm,
            arch=arch,
            mean=_numbers(mean),
            std=_numbers(std),
            weights=weights,
            device=device,
        )
        found = plan_verification(model, adversarial, options, eight_bit=eight_bit)()
    stderr.print(f"{found.model} on {found.n} of {found.dataset}, {found.threat}")
    emit(text.verification(found, format))


def _check_gate(fail_under: float | None) -> None:
    if fail_under is not None and not 0 <= fail_under <= 1:
        hint = f"; did you mean {fail_under / 100:g}?" if 1 < fail_under <= 100 else ""
        raise UserError(f"expected --fail-under from 0 to 1, got {fail_under:g}{hint}")


def refuse_launcher() -> None:
    """Each process of a launcher would do the whole of an evaluation."""
    if "LOCAL_RANK" in os.environ and os.environ.get("WORLD_SIZE", "1") != "1":
        raise UserError(
            "a launcher such as torchrun shares a training, not an evaluation; start this without it, and share the "
            "examples with --workers or --part i/k"
        )


def _numbers(text: str | None) -> list[float] | None:
    from robench.utils.settings import numbers

    return None if text is None else numbers(text)
