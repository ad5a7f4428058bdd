"""Arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="Run directory that `nas train` made.")]
SpaceOrRun = Annotated[
    str, typer.Argument(metavar="SPACE|RUN", help="Name (see `nas spaces`), YAML file or run directory.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
DataRootOption = Annotated[
    Path | None,
    typer.Option(help="Folder of the images.", show_default="the folder recorded in the run"),
]
DatasetOption = Annotated[
    str | None,
    typer.Option(
        help="The custom data set of the run, as module:object, to allow its import.", show_default=False
    ),
]
AllowImport = Annotated[
    bool, typer.Option("--allow-import", help="Allow the import of custom code that the run names.")
]
SeedOption = Annotated[
    int, typer.Option(min=0, max=2**32 - 1, help="Random seed.")  # the range of scikit-learn
]
FallbackOption = Annotated[
    bool, typer.Option("--fallback", help="Run nodes that the provider does not support on the CPU.")
]
DeviceOption = Annotated[
    str, typer.Option(metavar="NAME", help="A device profile; `nas profile` creates one.")
]
SearchedDeviceOption = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="A device for which the run was searched.",
        show_default="the device of the last search",
    ),
]
ProfilesOption = Annotated[
    Path | None, typer.Option(help="Folder of device profiles.", show_default="in the user data folder")
]
AcceleratorOption = Annotated[
    str, typer.Option(help="Where subnets are evaluated: auto (a GPU if there is one), cpu, cuda or mps.")
]
PrecisionOption = Annotated[
    str,
    typer.Option(
        help="Precision of evaluations: 32-true, bf16-mixed or 16-mixed; each is stored separately."
    ),
]
CheckImages = Annotated[
    bool | None,
    typer.Option(
        "--check-images/--no-check-images",
        help="Read all image files first and list those that cannot be read.",
        show_default="up to 5,000 files",
    ),
]
