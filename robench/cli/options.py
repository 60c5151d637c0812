"""Options and arguments that several commands have, as typer reads them."""

from pathlib import Path
from typing import Annotated

import typer

from robench.reports.formats import Format

Model = Annotated[str, typer.Option(help="A checkpoint, or FACTORY.py:function (runs that code).")]
Dataset = Annotated[str | None, typer.Option(help="By default the checkpoint's, else digits.")]
DataRoot = Annotated[Path, typer.Option(help="Where torchvision's data sets lie.")]
Download = Annotated[bool, typer.Option("--download", help="Fetch a missing torchvision data set.")]
Eps = Annotated[str | None, typer.Option(help="Radius in units of [0, 1]: 8/255 or a number.")]
Norm = Annotated[str | None, typer.Option(help="linf or l2.")]
Arch = Annotated[str | None, typer.Option(help="The architecture of a bare state dict, or of the model to train.")]
Mean = Annotated[str | None, typer.Option(help="Of each channel, for a bare state dict: 0.49,0.48,0.45.")]
Std = Annotated[str | None, typer.Option(help="Likewise.")]
Device = Annotated[str | None, typer.Option(help="cpu or cuda; by default cuda where there is one.")]
Workers = Annotated[int, typer.Option(help="Processes that share the examples of each attack.")]
Labels = Annotated[int | None, typer.Option(help="So many images keep their label, as many of each class.")]
Target = Annotated[str | None, typer.Option(help="The data set whose domain to adapt to, without its labels.")]
Results = Annotated[Path, typer.Option(help="The folder of results.")]
Printed = Annotated[Format, typer.Option(help="Of what goes to standard output.")]

DATA_ROOT, RESULTS = Path("data"), Path("results")
"""Their defaults."""
