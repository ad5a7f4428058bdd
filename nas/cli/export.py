"""The command `nas export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nas.cli.arch import find_arch
from nas.cli.open_run import open_run
from nas.cli.options import (
    AllowImport,
    DataRootOption,
    DatasetOption,
    JsonOption,
    RunArgument,
    SearchedDeviceOption,
    SeedOption,
)
from nas.cli.output import line, records, show


def export(
    run: RunArgument,
    pick: Annotated[
        str | None,
        typer.Option(
            help="knee (best compromise), first or last (best in the first or last objective), spread (five "
            "over the whole front), all, or ids of subnets separated by commas.",
            show_default="knee",
        ),
    ] = None,
    arch: Annotated[
        list[str] | None,
        typer.Option(
            help="Export this subnet instead: largest, smallest, random, or a JSON or YAML file; repeatable."
        ),
    ] = None,
    device: SearchedDeviceOption = None,
    file_format: Annotated[
        str,
        typer.Option(
            "--format",
            help="onnx, or torch (a torch.export file, a state dict, and Python code that only needs torch).",
        ),
    ] = "onnx",
    dynamic_batch: Annotated[
        bool,
        typer.Option(
            "--dynamic-batch", help="Use a dynamic batch size instead of the batch size of the device."
        ),
    ] = False,
    int8: Annotated[bool, typer.Option("--int8", help="Short for --precision int8.")] = False,
    precision: Annotated[
        str | None,
        typer.Option(
            help="fp32, fp16, int8, or mixed (the precision that the subnet chooses for each block).",
            show_default="the precision of the subnet or, without one, of the device; otherwise fp32",
        ),
    ] = None,
    calibration: Annotated[
        str,
        typer.Option(
            help="Ranges of INT8 activations: minmax, percentile, entropy, or auto (the best of them on the "
            "validation images)."
        ),
    ] = "auto",
    out: Annotated[
        Path | None, typer.Option(help="Folder to write to.", show_default="a folder in the run")
    ] = None,
    seed: SeedOption = 0,
    dataset: DatasetOption = None,
    data_root: DataRootOption = None,
    allow_import: AllowImport = False,
    as_json: JsonOption = False,
) -> None:
    """Write subnets as files, checked against torch, each with a model card."""
    from hw_profiles.connections.local import Local
    from nas.export.export_run import export_subnets, exported_table
    from nas.progress import shown
    from nas.runs.commands import command, data_options
    from nas.runs.files import ONNX

    target_precision = "int8" if int8 else precision
    trained = open_run(run, dataset, data_root, allow_import)
    with shown() as progress:
        archs = [find_arch(trained.space, name, seed) for name in arch or ()]
        if trained.info.arch and not archs:
            if pick:
                raise ValueError(f"--pick has no effect: the run {run} has only one subnet; leave it out")
            archs = [trained.info.quantised or trained.info.arch]
        exported = export_subnets(
            trained,
            archs or pick or "knee",
            device=device,
            file_format=file_format,
            dynamic_batch=dynamic_batch,
            precision=target_precision,
            calibration=calibration,
            out=out,
            progress=progress,
        )
    show(records(exported_table(exported, trained.task.headline.metric)), as_json)
    if not as_json:
        models = [file.path for file in exported if file.path.suffix == ONNX]
        profiled = trained.device(device)
        steps = [command("report", run, *data_options(dataset, data_root, allow_import=allow_import))]
        if models and (profiled is None or isinstance(profiled.profile.connection, Local)):
            steps.insert(0, command("benchmark", *models))
        line(f"next: {', or '.join(steps)}")
