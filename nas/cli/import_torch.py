"""The command `nas import torch`, which makes a run from a user's own network."""

from __future__ import annotations

from functools import partial
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nas.cli.import_record import recorded_options
from nas.cli.options import CheckImages, JsonOption
from nas.cli.output import line, print_json, show

if TYPE_CHECKING:
    from nas.importing.torch_model.convert import Converted


def import_torch(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="torchvision:NAME, timm:NAME, or module:factory of your own code, which is imported: a "
            "function that returns the network, its class, or the network itself.",
        ),
    ],
    out: Annotated[Path, typer.Option(help="Run directory to make.")],
    context: typer.Context,
    weights: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="State dict of torch or safetensors; no code in it is executed.",
            show_default="the weights that the code sets",
        ),
    ] = None,
    key: Annotated[
        str | None,
        typer.Option(
            help="Key of the weights in the file, such as state_dict_ema.",
            show_default="the first match of state_dict, model_state_dict, model and others, EMA last",
        ),
    ] = None,
    by_order: Annotated[
        bool,
        typer.Option(
            "--by-order",
            help="Match the tensors of the file by their order and shape instead of their names, for weights "
            "of another implementation of the network.",
        ),
    ] = False,
    arg: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="Argument for the function of MODEL; may be repeated."),
    ] = None,
    resolution: Annotated[
        list[int] | None,
        typer.Option(
            min=1,
            metavar="PIXELS",
            help="Side of the images; may be repeated. Required for your own code.",
            show_default="160, 192 and 224 for torchvision and timm",
        ),
    ] = None,
    elastic: Annotated[
        str,
        typer.Option(
            help="What subnets choose, separated by commas: expand (channels inside blocks), heads "
            "(of attention), depth, width (channels of residual streams), kernel (of depthwise convolutions)."
        ),
    ] = "expand,heads,depth",
    ratios: Annotated[str, typer.Option(help="Shares of the channels, separated by commas.")] = "0.5,0.75,1",
    divisor: Annotated[
        int, typer.Option("--round", min=1, metavar="N", help="Channels are rounded to multiples of this.")
    ] = 8,
    keep: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATTERN", help="Modules that are not made elastic, such as 'layer4.*'; may be repeated."
        ),
    ] = None,
    classes: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Replace the last layer by a random one with this number of outputs.",
            show_default="the outputs of the network",
        ),
    ] = None,
    order: Annotated[
        str,
        typer.Option(
            help="Sort channels and heads by importance, so that narrow subnets keep the most important "
            "ones: norm (of the weights), taylor (estimated change of the loss if each is removed, on "
            "training images) or none."
        ),
    ] = "norm",
    dataset: Annotated[
        str | None, typer.Option(help="Data set: a name or module:object.", show_default="imagefolder")
    ] = None,
    data_root: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the images, with the folders train and val; can also be given to later commands."
        ),
    ] = None,
    split_seed: Annotated[int, typer.Option(min=0, help="Seed of the validation split.")] = 0,
    validation_images: Annotated[
        int,
        typer.Option(
            min=1, metavar="N", help="Number of images of val in the validation split, at most half of val."
        ),
    ] = 10_000,
    check_images: CheckImages = None,
    as_json: JsonOption = False,
) -> None:
    """Import your own network: its subnets share its weights, and the largest one computes what it does."""
    from nas.importing.import_run import import_run
    from nas.importing.torch_model.convert import convert
    from nas.importing.torch_model.load import TORCHVISION_SIDES, load_model, load_weights
    from nas.importing.torch_model.plan import Options
    from nas.importing.torch_model.sort import sort_by_taylor
    from nas.runs.run_dir import RunDir

    _check_order(order, classes, has_images=bool(dataset or data_root))
    options = Options(
        tuple(word.strip() for word in elastic.split(",")), _numbers(ratios), divisor, tuple(keep or ())
    )
    RunDir.check_free(out)
    source, colon, name = model.partition(":")
    if colon and not resolution and source not in ("torchvision", "timm"):
        raise ValueError(f"{model} needs the side of its images; give --resolution, which may be repeated")
    network = load_model(model, arg or ())
    if weights is not None:
        load_weights(network, weights, key, by_order=by_order)
    elif by_order:
        raise ValueError("--by-order has no effect without --weights; leave it out")
    converted = convert(
        network,
        resolution or TORCHVISION_SIDES,
        options,
        outputs=classes,
        sort=order == "norm",
        name=name.replace(".", "-"),
        origin=model,
    )
    run = import_run(
        converted.supernet,
        out,
        source="torch",
        model=model,
        checkpoint=weights,
        dataset=dataset,
        data_root=data_root,
        split_seed=split_seed,
        validation_images=validation_images,
        check_images=check_images,
        options=recorded_options(context),
        sort=partial(sort_by_taylor, converted.supernet) if order == "taylor" else None,
    )
    if as_json:
        print_json(
            {
                "space": converted.space.name,
                "stages": converted.space.stages(),
                "not_elastic": [{"module": m, "reason": r} for m, r in converted.plan.fixed],
                "resolutions_left_out": dict(converted.refused),
                "modules_left_out": converted.training_only,
            }
        )
        return
    _describe(converted)
    info = run.info()
    assert info.imported
    line(info.imported.note)
    line(f"imported: {run.path}; next: {info.elastic_training(run.path)}")


def _check_order(order: str, classes: int | None, *, has_images: bool) -> None:
    if order not in ("norm", "taylor", "none"):
        raise ValueError(f"--order must be norm, taylor or none, got {order!r}")
    if order == "taylor" and not has_images:
        raise ValueError("--order taylor needs training images; give --data-root or --dataset")
    if order == "taylor" and classes is not None:
        raise ValueError("--order taylor needs the last layer, which --classes replaces; give --order norm")


def _describe(converted: Converted) -> None:
    """Print the stages, and the modules that are not elastic with the reasons."""
    from search_spaces.errors import first_names

    space = converted.space
    show(space.stages(), False)
    by_reason = sorted(converted.plan.fixed, key=lambda item: item[1])
    rows = []
    for reason, items in groupby(by_reason, key=lambda item: item[1]):
        modules = [module for module, _ in items]
        rows.append({"not elastic": first_names(modules, 4), "number": len(modules), "reason": reason})
    show(rows, False)
    line(
        f"{space.name}: {space.n_subnets:.3e} subnets, {len(space.genes)} genes, resolutions "
        f"{' '.join(map(str, space.resolutions))}; MACs from {space.macs(space.smallest):,} to "
        f"{space.macs(space.largest):,}, parameters from {space.params(space.smallest):,} to "
        f"{space.params(space.largest):,}"
    )
    for side, reason in converted.refused:
        line(f"no subnets with images of {side} pixels: {reason}")
    if converted.training_only:
        line(f"left out, because only training uses it: {', '.join(converted.training_only)}")


def _numbers(text: str) -> tuple[float, ...]:
    try:
        return tuple(map(float, text.split(",")))
    except ValueError:
        raise ValueError(f"--ratios must be numbers separated by commas, got {text!r}") from None
