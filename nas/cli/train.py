"""The command `nas train`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from nas.cli.options import AllowImport, CheckImages
from nas.cli.output import line
from nas.cli.stopping import signal_exit_code


def train(
    config: Annotated[str, typer.Option(help="Name of a shipped recipe, or a YAML file.")],
    out: Annotated[Path, typer.Option(help="Run directory to make.")],
    changes: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="Change a key of the recipe, such as optimizer.lr=0.2."
        ),
    ] = None,
    init: Annotated[
        Path | None,
        typer.Option(
            metavar="RUN",
            help="Start from the weights of this run, which must have the same space.",
            show_default="random weights",
        ),
    ] = None,
    split_seed: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Seed of the train, validation and test splits.",
            show_default="the seed in the recipe",
        ),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume", help="Continue the run in OUT, or start it if the folder is missing or empty."
        ),
    ] = False,
    allow_import: AllowImport = False,
    check_images: CheckImages = None,
) -> None:
    """Train a supernet."""
    from hw_profiles.command import profile_command
    from nas.progress import shown
    from nas.runs.commands import command
    from nas.runs.run_dir import RunDir
    from nas.training.accelerator import is_rank_zero
    from nas.training.open_recipe import open_recipe
    from nas.training.train import train as run_training

    overrides = [*(changes or ()), *([] if split_seed is None else [f"data.split_seed={split_seed}"])]
    overrides += [] if init is None else [f"init={json.dumps(str(init))}"]
    loaded = open_recipe(config, overrides, allow_import=allow_import)
    with signal_exit_code(), shown(loaded.logging.every_n_steps) as progress:
        run_training(loaded, out, resume=resume, check_images=check_images, progress=progress)
    if is_rank_zero():
        evaluate = command("evaluate", out, *RunDir(out).info().data_options)
        line(f"trained: {out}; next: {evaluate}, or {profile_command(str(out), 'NAME')}")
