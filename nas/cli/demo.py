"""The command `nas demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nas.cli.options import JsonOption, SeedOption
from nas.cli.output import line, print_json, records, show
from nas.cli.stopping import signal_exit_code


def demo(
    recipe: Annotated[str, typer.Option(help="Name of a shipped recipe, or a YAML file.")] = "digits",
    data_root: Annotated[
        Path | None, typer.Option(help="Folder of the images.", show_default="the folder in the recipe")
    ] = None,
    seed: SeedOption = 0,
    out: Annotated[Path, typer.Option(help="Run directory to make.")] = Path("runs/demo"),
    resume: Annotated[bool, typer.Option("--resume", help="Continue a demo that was interrupted.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Run the whole workflow of a recipe: train, profile, search, export, benchmark, report."""
    from nas.cli.demo_run import run_demo
    from nas.progress import shown
    from nas.report.figures_of_merit import figure_rows

    with signal_exit_code(), shown() as progress:
        result = run_demo(
            out, recipe=recipe, data_root=data_root, seed=seed, resume=resume, progress=progress
        )
    subnets = records(result.subnets)
    if as_json:
        summary = {"seed": seed, "seconds": result.seconds, "report": str(result.report)}
        print_json(summary | {"chosen": subnets, "figures": figure_rows(result.figures)})
        return
    show(subnets, False)
    line(f"report: {result.report}")
