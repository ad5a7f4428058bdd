"""The commands `nas import …`: weights that other tools trained become a run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nas.cli.no_effect import Command
from nas.cli.options import CheckImages
from nas.cli.output import line

if TYPE_CHECKING:
    from nas.runs.run_dir import RunDir

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
    from nas.importing.import_run import import_run, read_classes
    from nas.importing.importers import load_ofa

    run = import_run(
        load_ofa(checkpoint, space, key),
        out,
        source="ofa",
        checkpoint=checkpoint,
        dataset=dataset,
        data_root=data_root,
        split_seed=split_seed,
        validation_images=validation_images,
        classes=read_classes(classes) if classes else (),
        resolutions=resolution or (),
        check_images=check_images,
    )
    _tell(run)


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
    from nas.importing.import_run import import_run, read_classes
    from nas.importing.importers import load_attentivenas

    run = import_run(
        load_attentivenas(checkpoint, key),
        out,
        source="attentivenas",
        checkpoint=checkpoint,
        dataset=dataset,
        data_root=data_root,
        split_seed=split_seed,
        validation_images=validation_images,
        classes=read_classes(classes) if classes else (),
        resolutions=resolution or (),
        check_images=check_images,
    )
    _tell(run)


def _tell(run: RunDir) -> None:
    from hw_profiles.command import profile_command
    from nas.runs.commands import command

    info = run.info()
    imported = info.imported
    assert imported
    evaluate = command("evaluate", run.path, *info.data_options)
    line(imported.note)
    line(f"imported: {run.path}; next: {evaluate}, or {profile_command(str(run.path), 'NAME')}")
