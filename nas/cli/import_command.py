"""The commands `nas import …`: make a run from weights that other tools have trained."""

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
    help="Make a run from a published supernet; no code in its file is executed. For images in the layout "
    "of ImageNet, part of val is the validation split and the rest is the test split.",
)

Checkpoint = Annotated[Path, typer.Argument(metavar="CHECKPOINT", help="File with the weights.")]
Out = Annotated[Path, typer.Option(help="Run directory to make.")]
Images = Annotated[
    str | None,
    typer.Option("--dataset", help="Data set: a name or module:object.", show_default="imagefolder"),
]
DataRoot = Annotated[
    Path | None,
    typer.Option(
        help="Folder of the images, with the folders train and val; can also be given to later commands."
    ),
]
SplitSeed = Annotated[int, typer.Option(min=0, help="Seed of the validation split.")]
ValidationImages = Annotated[
    int,
    typer.Option(
        min=1, metavar="N", help="Number of images of val in the validation split, at most half of val."
    ),
]
Classes = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="For images of a subset of the classes: names of the class folders of all outputs, in order, "
        "one per line.",
        show_default=False,
    ),
]
Key = Annotated[
    str | None,
    typer.Option(
        help="Key of the weights in the file, such as state_dict_ema.",
        show_default="the first match of state_dict, model_state_dict, model and others, averages last",
    ),
]
Resolutions = Annotated[
    list[int] | None,
    typer.Option(
        "--resolution",
        metavar="PIXELS",
        help="Search only this resolution; may be repeated. Fewer make profile and search faster.",
        show_default="all",
    ),
]


@app.command(cls=Command)
def ofa(
    checkpoint: Checkpoint,
    space: Annotated[str, typer.Option(help="Search space of the supernet, such as ofa-mbv3-w1.0.")],
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
