"""`nas report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nas.cli.open_run import open_run
from nas.cli.options import (
    AllowImport,
    DataRootOption,
    DatasetOption,
    JsonOption,
    RunArgument,
    SearchedDeviceOption,
)
from nas.cli.output import line, show


def report(
    run: RunArgument,
    device: SearchedDeviceOption = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder to write to.", show_default="that of the search")
    ] = None,
    dataset: DatasetOption = None,
    data_root: DataRootOption = None,
    allow_import: AllowImport = False,
    json: JsonOption = False,
) -> None:
    """Read the test split and write everything that is known about a run into one HTML page."""
    from nas.progress import shown
    from nas.report.figures_of_merit import as_json
    from nas.report.report_run import report_run

    trained = open_run(run, dataset, data_root, allow_import)
    with shown() as progress:
        path, figures = report_run(trained, device=device, out=out, progress=progress)
    show(as_json(figures), json)
    if not json:
        line(f"report: {path}")
