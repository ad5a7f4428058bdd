"""The command `nas evaluate`."""

from __future__ import annotations

from typing import Annotated

import typer

from nas.cli.arch import find_arch
from nas.cli.open_run import open_run
from nas.cli.options import (
    AcceleratorOption,
    AllowImport,
    DataRootOption,
    DatasetOption,
    JsonOption,
    PrecisionOption,
    RunArgument,
    SeedOption,
)
from nas.cli.output import line, records, show


def evaluate(
    run: RunArgument,
    samples: Annotated[
        int | None, typer.Option(min=1, help="Number of random subnets to evaluate.", show_default="none")
    ] = None,
    arch: Annotated[
        list[str] | None, typer.Option(help="largest, smallest or a JSON or YAML file; may be repeated.")
    ] = None,
    metric: Annotated[
        list[str] | None, typer.Option(help="Additional metric: a name or module:object; may be repeated.")
    ] = None,
    calibration: Annotated[
        str, typer.Option(help="BN recalibration: default (clean images), ofa, attentivenas or alphanet.")
    ] = "default",
    calibration_images: Annotated[
        int | None,
        typer.Option(min=2, help="Images for the recalibration.", show_default="the number of the method"),
    ] = None,
    accelerator: AcceleratorOption = "auto",
    precision: PrecisionOption = "32-true",
    seed: SeedOption = 0,
    dataset: DatasetOption = None,
    data_root: DataRootOption = None,
    allow_import: AllowImport = False,
    as_json: JsonOption = False,
) -> None:
    """Evaluate subnets on the validation split, with inherited weights and BN recalibration."""
    import numpy as np

    from nas.evaluation.calibration import Calibration
    from nas.progress import shown

    trained = open_run(run, dataset, data_root, allow_import).with_accelerator(accelerator, precision)
    space, default = trained.space, Calibration()
    recalibration = Calibration(calibration_images, method=calibration)
    if recalibration != default and not space.has_batch_norm:
        raise ValueError(
            f"--calibration and --calibration-images have no effect in the space {space.name!r}, which has "
            "no batch norms; leave them out"
        )
    archs = [find_arch(space, name, seed) for name in arch or ()]
    archs += space.decode(space.sample(np.random.default_rng(seed), samples or 0))
    with shown() as progress:
        table = trained.evaluate(
            archs,
            metrics=metric or (),
            calibration=recalibration,
            progress=progress,
        )
    show(records(table.drop(columns="arch")), as_json)
    if trained.info.imported and not as_json:
        line(trained.info.imported.note)
