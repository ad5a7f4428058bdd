"""The command `nas finetune`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nas.cli.options import AllowImport, CheckImages
from nas.cli.output import line
from nas.cli.stopping import signal_exit_code


def finetune(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Trained or imported run with the subnet.")],
    arch: Annotated[str, typer.Option(help="largest, smallest or a JSON or YAML file.")],
    config: Annotated[
        str, typer.Option(help="Recipe with the data and the schedule: a name, or a YAML file.")
    ],
    out: Annotated[Path, typer.Option(help="Run directory to make.")],
    changes: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Change a key of the recipe, such as data.dataset or finetuning.head_lr.",
        ),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume", help="Continue the run in OUT, or start it if the folder is missing or empty."
        ),
    ] = False,
    quantise: Annotated[
        bool,
        typer.Option(
            "--quantise",
            help="Train with the rounding of the INT8 parts of the exported file: the parts for which "
            "the subnet chooses INT8, or all parts if it chooses no precision.",
        ),
    ] = False,
    int8_for: Annotated[
        str | None,
        typer.Option(
            help="Instruction set for which INT8 files are written: x86, x86-vnni or arm.",
            show_default="this machine's",
        ),
    ] = None,
    allow_import: AllowImport = False,
    check_images: CheckImages = None,
) -> None:
    """Fine-tune one subnet of a run, on the same or on other data."""
    from hw_profiles.measuring.runner.device_description import instruction_set
    from nas.cli.arch import find_arch
    from nas.progress import shown
    from nas.runs.commands import command
    from nas.runs.run_dir import RunDir
    from nas.training.accelerator import is_rank_zero
    from nas.training.finetune import finetune as run_finetune
    from nas.training.open_recipe import open_recipe

    subnet = find_arch(RunDir.open(run).space(), arch)
    loaded = open_recipe(config, changes or (), allow_import=allow_import)
    with signal_exit_code(), shown(loaded.logging.every_n_steps) as progress:
        run_finetune(
            run,
            subnet,
            loaded,
            out,
            int8_for=(int8_for or instruction_set()) if quantise else None,
            resume=resume,
            check_images=check_images,
            progress=progress,
        )
    if is_rank_zero():
        data = RunDir(out).info().data_options
        evaluate, export = command("evaluate", out, *data), command("export", out, *data)
        line(f"fine-tuned {subnet.id}: {out}; next: {evaluate}, or {export}")
