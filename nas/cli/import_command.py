"""The commands `nas import …`: weights that other tools trained become a run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from nas.cli.no_effect import Command
from nas.cli.options import CheckImages
from nas.cli.output import line

app = typer.Typer(
    no_args_is_help=True,
    help="Make a run from a published supernet; nothing in its file is executed. On images in ImageNet's "
    "layout, part of val steers the search and the rest is for the report.",
)

Checkpoint = Annotated[Path, typer.Argument(metavar="CHECKPOINT", help="The file of weights.")]
Out = Annotated[Path, typer.Option(help="Run directory to make.")]
Images = Annotated[
    str | None, typer.Option("--dataset", help="Images: a name or module:object.", show_default="imagefolder")
]
DataRoot = Annotated[
    Path | None,
    typer.Option(help="Folder of the images, with train and val in it; may be given to later commands."),
]
SplitSeed = Annotated[int, typer.Option(min=0, help="Draw another part of val for the search.")]
ValidationImages = Annotated[
    int, typer.Option(min=1, metavar="N", help="Images of val that steer the search, at most half of them.")
]
Classes = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="For images of some of the classes: the class folders of all outputs, in order, one a line.",
        show_default=False,
    ),
]
Key = Annotated[
    str | None,
    typer.Option(
        help="Where the weights are in the file, such as state_dict_ema.",
        show_default="the first that fits of state_dict, model_state_dict, model and others, averages last",
    ),
]
Resolutions = Annotated[
    list[int] | None,
    typer.Option(
        "--resolution",
        metavar="PIXELS",
        help="Search this resolution alone; may be repeated. Fewer are profiled and searched faster.",
        show_default="all",
    ),
]


@app.command(cls=Command)
def ofa(
    checkpoint: Checkpoint,
    space: Annotated[str, typer.Option(help="Its space, such as ofa-mbv3-w1.0.")],
    out: Out,
    dataset: Images = None,
    data_root: DataRoot = None,
    split_seed: SplitSeed = 0,
    validation_images: ValidationImages = 10_000,
    classes: Classes = None,
    resolution: Resolutions = None,
    key: Key = None,
    check_images: CheckImages = None,
) -> None:
    """Import a supernet of Once-for-All (Cai et al. 2020)."""
    _import(
        "ofa",
        checkpoint,
        space,
        out,
        dataset,
        data_root,
        split_seed,
        validation_images,
        classes,
        resolution,
        key,
        check_images,
    )


@app.command(cls=Command)
def attentivenas(
    checkpoint: Checkpoint,
    out: Out,
    dataset: Images = None,
    data_root: DataRoot = None,
    split_seed: SplitSeed = 0,
    validation_images: ValidationImages = 10_000,
    classes: Classes = None,
    resolution: Resolutions = None,
    key: Key = None,
    check_images: CheckImages = None,
) -> None:
    """Import a supernet of AttentiveNAS or AlphaNet (Wang et al. 2021)."""
    _import(
        "attentivenas",
        checkpoint,
        "attentivenas",
        out,
        dataset,
        data_root,
        split_seed,
        validation_images,
        classes,
        resolution,
        key,
        check_images,
    )


def _import(
    source: str,
    checkpoint: Path,
    space: str,
    out: Path,
    dataset: str | None,
    data_root: Path | None,
    split_seed: int,
    validation_images: int,
    classes: Path | None,
    resolutions: Sequence[int] | None,
    key: str | None,
    check_images: bool | None,
) -> None:
    from hw_profiles.command import profile_command
    from nas.importing.import_run import import_run, read_classes
    from nas.importing.importers import load_supernet
    from nas.runs.commands import command

    run = import_run(
        load_supernet(source, checkpoint, space, key=key),
        out,
        source=source,
        checkpoint=checkpoint,
        dataset=dataset,
        data_root=data_root,
        split_seed=split_seed,
        validation_images=validation_images,
        classes=read_classes(classes) if classes else (),
        resolutions=resolutions or (),
        check_images=check_images,
    )
    info = run.info()
    imported = info.imported
    assert imported
    evaluate = command("evaluate", run.path, *info.data_options)
    line(imported.note)
    line(f"imported: {run.path}; next: {evaluate}, or {profile_command(str(run.path), 'NAME')}")
