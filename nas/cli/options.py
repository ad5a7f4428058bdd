"""Arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="Run directory that `nas train` made.")]
SpaceOrRun = Annotated[
    str, typer.Argument(metavar="SPACE|RUN", help="Name (see `nas spaces`), YAML file or run directory.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON for programs.")]
DataRootOption = Annotated[
    Path | None,
    typer.Option(help="Where the run's images are now.", show_default="where the run recorded them"),
]
DatasetOption = Annotated[
    str | None, typer.Option(help="Gives a run's own data set again, as module:object.", show_default=False)
]
AllowImport = Annotated[
    bool, typer.Option("--allow-import", help="Import code outside the toolkit that the run names.")
]
SeedOption = Annotated[
    int, typer.Option(min=0, max=2**32 - 1, help="Equal seeds give equal results.")  # scikit-learn's range
]
FallbackOption = Annotated[
    bool, typer.Option("--fallback", help="Let the CPU run the nodes that the provider does not take.")
]
DeviceOption = Annotated[str, typer.Option(metavar="NAME", help="A device profile; `nas profile` makes one.")]
SearchedDeviceOption = Annotated[
    str | None,
    typer.Option(
        metavar="NAME", help="A device that the run was searched for.", show_default="the last one searched"
    ),
]
ProfilesOption = Annotated[
    Path | None, typer.Option(help="Folder of device profiles.", show_default="in your data folder")
]
CheckImages = Annotated[
    bool | None,
    typer.Option(
        "--check-images/--no-check-images",
        help="Read all image files first and list those that cannot be read.",
        show_default="up to 5,000 files",
    ),
]
