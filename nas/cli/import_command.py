"""The commands `nas import …`, which make a run from weights that were trained by other tools."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from nas.cli.import_record import recorded_options
from nas.cli.import_torch import import_torch
from nas.cli.no_effect import Command
from nas.cli.option_groups import expand_option_groups
from nas.cli.options import CheckImages
from nas.cli.output import line

app = typer.Typer(
    no_args_is_help=True,
    help="Make a run from a published supernet; no code in its file is executed. For images in the layout "
    "of ImageNet, part of val is the validation split and the rest is the test split.",
)

Checkpoint = Annotated[Path, typer.Argument(metavar="CHECKPOINT", help="File with the weights.")]
Out = Annotated[Path, typer.Option(help="Run directory to make.")]


Hybrid = Annotated[str, typer.Option("--space", help="Search space of the supernet: a name or YAML file.")]


@dataclass(frozen=True)
class ImportOptions:
    """The options of all commands that import a supernet."""

    dataset: Annotated[
        str | None,
        typer.Option("--dataset", help="Data set: a name or module:object.", show_default="imagefolder"),
    ] = None
    data_root: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the images, with the folders train and val; can also be given to later commands."
        ),
    ] = None
    split_seed: Annotated[int, typer.Option(min=0, help="Seed of the validation split.")] = 0
    validation_images: Annotated[
        int,
        typer.Option(
            min=1, metavar="N", help="Number of images of val in the validation split, at most half of val."
        ),
    ] = 10_000
    classes: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="For images of a subset of the classes: names of the class folders of all outputs, in "
            "order, one per line.",
            show_default=False,
        ),
    ] = None
    resolution: Annotated[
        list[int] | None,
        typer.Option(
            "--resolution",
            metavar="PIXELS",
            help="Search only this resolution; may be repeated. With fewer resolutions, profile and search "
            "take less time.",
            show_default="all",
        ),
    ] = None
    key: Annotated[
        str | None,
        typer.Option(
            help="Key of the weights in the file, such as state_dict_ema.",
            show_default="the weights that the original tool loads",
        ),
    ] = None
    check_images: CheckImages = None


@app.command(cls=Command)
@expand_option_groups
def ofa(
    checkpoint: Checkpoint,
    space: Annotated[str, typer.Option(help="Search space of the supernet, such as ofa-mbv3-w1.0.")],
    out: Out,
    options: ImportOptions,
    context: typer.Context,
) -> None:
    """Import a supernet of Once-for-All (Cai et al. 2020)."""
    _import("ofa", checkpoint, space, out, options, context)


@app.command(cls=Command)
@expand_option_groups
def attentivenas(checkpoint: Checkpoint, out: Out, options: ImportOptions, context: typer.Context) -> None:
    """Import a supernet of AttentiveNAS or AlphaNet (Wang et al. 2021)."""
    _import("attentivenas", checkpoint, "attentivenas", out, options, context)


@app.command(cls=Command)
@expand_option_groups
def autoformer(
    checkpoint: Checkpoint,
    space: Annotated[str, typer.Option(help="Search space: autoformer-tiny, -small, -base or a YAML file.")],
    out: Out,
    options: ImportOptions,
    context: typer.Context,
) -> None:
    """Import a supernet of AutoFormer (Chen et al. 2021)."""
    _import("autoformer", checkpoint, space, out, options, context)


@app.command(cls=Command)
@expand_option_groups
def prenas(
    checkpoint: Checkpoint,
    space: Annotated[str, typer.Option(help="Search space: autoformer-tiny, -small, -base or a YAML file.")],
    out: Out,
    options: ImportOptions,
    context: typer.Context,
) -> None:
    """Import a supernet of PreNAS (Wang et al. 2023), which has the spaces of AutoFormer."""
    _import("prenas", checkpoint, space, out, options, context)


@app.command(cls=Command)
@expand_option_groups
def nasvit(
    checkpoint: Checkpoint,
    out: Out,
    options: ImportOptions,
    context: typer.Context,
    space: Hybrid = "nasvit",
) -> None:
    """Import a supernet of NASViT (Gong et al. 2022)."""
    _import("nasvit", checkpoint, space, out, options, context)


@app.command(cls=Command)
@expand_option_groups
def elasticvit(
    checkpoint: Checkpoint,
    out: Out,
    options: ImportOptions,
    context: typer.Context,
    space: Hybrid = "elasticvit",
) -> None:
    """Import a supernet of ElasticViT (Tang et al. 2023)."""
    _import("elasticvit", checkpoint, space, out, options, context)


Model = Annotated[
    str | None,
    typer.Option(
        help="Name of the network, such as vit_b_16_swag or deit_tiny_patch16_224, which determines its "
        "preprocessing.",
        show_default="the name of the file",
    ),
]
Elastic = Annotated[
    str,
    typer.Option("--space", help="Search space with the network as its largest subnet: a name or YAML file."),
]


@app.command(cls=Command)
@expand_option_groups
def torchvision(
    checkpoint: Checkpoint,
    space: Elastic,
    out: Out,
    options: ImportOptions,
    context: typer.Context,
    model: Model = None,
) -> None:
    """Make a network of torchvision (vit_*) the largest subnet of a search space."""
    _import("torchvision", checkpoint, space, out, options, context, model)


@app.command(cls=Command)
@expand_option_groups
def timm(
    checkpoint: Checkpoint,
    space: Elastic,
    out: Out,
    options: ImportOptions,
    context: typer.Context,
    model: Model = None,
) -> None:
    """Make a network of timm (vit_*, deit_*, deit3_*) the largest subnet of a search space."""
    _import("timm", checkpoint, space, out, options, context, model)


app.command("torch", cls=Command)(import_torch)


def _import(
    source: str,
    checkpoint: Path,
    space: str,
    out: Path,
    options: ImportOptions,
    context: typer.Context,
    model: str | None = None,
) -> None:
    from hw_profiles.command import profile_command
    from nas.importing.import_run import import_run, read_classes
    from nas.importing.importers import load_supernet
    from nas.runs.commands import command

    run = import_run(
        load_supernet(source, checkpoint, space, key=options.key),
        out,
        source=source,
        checkpoint=checkpoint,
        dataset=options.dataset,
        data_root=options.data_root,
        split_seed=options.split_seed,
        validation_images=options.validation_images,
        classes=read_classes(options.classes) if options.classes else (),
        resolutions=options.resolution or (),
        model=model,
        check_images=options.check_images,
        options=recorded_options(context),
    )
    info = run.info()
    imported = info.imported
    assert imported
    evaluate = command("evaluate", run.path, *info.data_options)
    line(imported.note)
    if info.preprocess:
        line(f"preprocessing: {info.preprocess.text(run.space().resolutions[-1])}")
    then = profile_command(str(run.path), "NAME")
    if not imported.subnets_trained:
        then = info.elastic_training(run.path)
    line(f"imported: {run.path}; next: {evaluate}, or {then}")
