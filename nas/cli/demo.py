"""`nas demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nas.cli.options import JsonOption, SeedOption
from nas.cli.output import line, print_json, records, show
from nas.cli.stopping import signal_exit_code


def demo(
    seed: SeedOption = 0,
    out: Annotated[Path, typer.Option(help="Run directory to make.")] = Path("runs/demo"),
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a demo that was stopped.")] = False,
    json: JsonOption = False,
) -> None:
    """Do the whole job on handwritten digits: train, profile, search, export, benchmark, report."""
    from nas.cli.demo_run import run_demo
    from nas.progress import shown
    from nas.report.figures_of_merit import as_json

    with signal_exit_code(), shown() as progress:
        result = run_demo(out, seed=seed, resume=resume, progress=progress)
    chosen = records(result.chosen)
    if json:
        told = {"seed": seed, "seconds": result.seconds, "report": str(result.report)}
        print_json(told | {"chosen": chosen, "figures": as_json(result.figures)})
        return
    show(chosen, False)
    line(f"report: {result.report}")
