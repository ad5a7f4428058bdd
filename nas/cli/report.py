"""The command `nas report`."""

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
        Path | None, typer.Option(help="Folder to write to.", show_default="the folder of the search")
    ] = None,
    compare: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.csv",
            help="Other models to show next to the front, with the columns model, latency_ms and accuracy "
            "(0 to 1, on the test split).",
            show_default=False,
        ),
    ] = None,
    dataset: DatasetOption = None,
    data_root: DataRootOption = None,
    allow_import: AllowImport = False,
    as_json: JsonOption = False,
) -> None:
    """Evaluate on the test split and write all results of a run to one HTML page."""
    from nas.progress import shown
    from nas.report.figures_of_merit import figure_rows
    from nas.report.report_run import report_run

    trained = open_run(run, dataset, data_root, allow_import)
    with shown() as progress:
        path, figures = report_run(trained, device=device, out=out, compare=compare, progress=progress)
    show(figure_rows(figures), as_json)
    if not as_json:
        line(f"report: {path}")
