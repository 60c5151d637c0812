"""Options and arguments that several commands have, as typer reads them."""

from pathlib import Path
from typing import Annotated

import typer

from robench.reports.formats import Format

ModelOption = Annotated[
    str,
    typer.Option(
        help="A checkpoint, FACTORY.py:function (runs that code), or a name: torchvision:NAME, timm:NAME, hf:NAME, ..."
    ),
]
DatasetOption = Annotated[
    str | None, typer.Option(help="A name, FORM:PATH or a path; by default the checkpoint's, else digits.")
]
ResizeOption = Annotated[
    str | None, typer.Option(help="torchvision's Resize of the images: 256, of the shorter side, or 224x224.")
]
CropOption = Annotated[str | None, typer.Option(help="torchvision's CenterCrop after it: 224, or 224x200.")]
DataRootOption = Annotated[Path, typer.Option(help="Where torchvision's data sets lie.")]
DownloadOption = Annotated[
    bool,
    typer.Option("--download", help="Fetch what is missing of torchvision's data sets, and of models by their names."),
]
EpsOption = Annotated[str | None, typer.Option(help="Radius in units of [0, 1]: 8/255 or a number.")]
NormOption = Annotated[str | None, typer.Option(help="linf or l2.")]
ArchOption = Annotated[
    str | None,
    typer.Option(
        help="The architecture of a file of weights, or of the one to train: a name, or FILE.py:NAME (runs that code)."
    ),
]
WeightsOption = Annotated[
    str | None, typer.Option(help="Where a file holds several that fit, the key of those to take, such as ema.")
]
MeanOption = Annotated[
    str | None, typer.Option(help="Normalises the input, of each channel: 0.49,0.48,0.45; where a file does not say.")
]
StdOption = Annotated[str | None, typer.Option(help="Likewise.")]
DeviceOption = Annotated[str | None, typer.Option(help="cpu or cuda; by default cuda where there is one.")]
WorkersOption = Annotated[int, typer.Option(help="Processes that share the examples of each attack.")]
TimeoutOption = Annotated[
    str | None,
    typer.Option(help="Of each attack, such as 10m: examples that it has not come to by then are noted as errors."),
]
LabelsOption = Annotated[int | None, typer.Option(help="So many images keep their label, as many of each class.")]
TargetOption = Annotated[str | None, typer.Option(help="The data set whose domain to adapt to, without its labels.")]
ResultsOption = Annotated[Path, typer.Option(help="The folder of results.")]
FormatOption = Annotated[Format, typer.Option(help="Of what goes to standard output.")]

DATA_ROOT, RESULTS = Path("data"), Path("results")
"""Their defaults."""
