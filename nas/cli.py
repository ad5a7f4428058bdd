"""The command line: each command reads its options and calls one function of the Python API.

Heavy packages are imported inside the commands, so that `nas --help` answers at once.
"""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

if TYPE_CHECKING:
    from nas.trained_run import TrainedRun
    from search_spaces import Arch, Space


class _Commands(TyperGroup):
    """Errors that a user can cause are one line on standard error and exit code 2."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except (ValueError, OSError) as error:
            if ctx.params["debug"]:
                raise
            sys.stderr.write(f"error: {_reason(error)}\n")
            raise typer.Exit(2) from None
        except KeyboardInterrupt:
            sys.stderr.write("stopped; what was finished is kept\n")
            raise typer.Exit(130) from None


app = typer.Typer(
    cls=_Commands,
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Train one elastic supernet; for every device, search the best subnets under its measured latency, "
    "export them to ONNX and benchmark them.",
)

RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="Run directory that `nas train` made.")]
SpaceArgument = Annotated[str, typer.Argument(metavar="SPACE", help="Name (see `nas spaces`) or YAML file.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON for programs.")]
DatasetOption = Annotated[
    str | None, typer.Option(help="Gives a run's own data set again, as module:object.", show_default=False)
]
AllowImport = Annotated[
    bool, typer.Option("--allow-import", help="Import code outside the toolkit that the run names.")
]
SeedOption = Annotated[int, typer.Option(help="Equal seeds give equal results.")]
DeviceOption = Annotated[str, typer.Option(help="Name of a device profile; `nas profile` makes one.")]
ProfilesOption = Annotated[
    Path | None, typer.Option(help="Folder of device profiles.", show_default="in your data folder")
]


@app.callback()
def _common(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Options of every command."""


@app.command()
def spaces(json: JsonOption = False) -> None:
    """List the search spaces that are shipped."""
    import search_spaces

    found = [search_spaces.get(name) for name in search_spaces.names()]
    rows = [
        {
            "space": space.name,
            "subnets": f"{space.n_subnets:.2e}",
            "resolutions": " ".join(map(str, space.resolutions)),
            "min_macs": space.macs(space.smallest),
            "max_macs": space.macs(space.largest),
            "description": space.config.description,
        }
        for space in found
    ]
    _show(rows, json)


@app.command()
def describe(
    space: SpaceArgument,
    arch: Annotated[
        str | None,
        typer.Option(help="largest, smallest, random, or a JSON file: show its layers.", show_default=False),
    ] = None,
    seed: SeedOption = 0,
    json: JsonOption = False,
) -> None:
    """Show a space's slots and number of subnets, or the layers and costs of one arch."""
    import search_spaces

    described = search_spaces.get(space)
    if arch is not None:
        _describe_arch(described, _arch(described, arch, seed), json)
        return
    stages = described.stages()
    totals = {
        "space": described.name,
        "subnets": described.n_subnets,
        "subnets_per_resolution": described.n_subnets // len(described.resolutions),
        "resolutions": described.resolutions,
        "genes": len(described.genes),
    }
    if json:
        _print_json(totals | {"stages": stages})
        return
    _show(stages, json)
    _line(
        f"{described.name}: {described.n_subnets:.3e} subnets from {len(described.genes)} genes, "
        f"at {len(described.resolutions)} resolution(s): {' '.join(map(str, described.resolutions))}"
    )


@app.command()
def train(
    config: Annotated[str, typer.Option(help="Name of a recipe that is shipped, or a YAML file.")],
    out: Annotated[Path, typer.Option(help="Run directory to make.")],
    set: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="Change a key of the recipe.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with RUN; a missing or empty one is started.")
    ] = False,
) -> None:
    """Train a supernet."""
    from nas import recipe
    from nas.progress import shown
    from nas.train import train as run_training

    loaded = recipe.load(config, set or ())
    with shown() as progress:
        run_training(loaded, out, resume=resume, progress=progress)
    _line(f"trained: {out}; next: nas evaluate {out}, or nas profile {loaded.space} --device NAME")


@app.command()
def evaluate(
    run: RunArgument,
    samples: Annotated[int, typer.Option(min=0, help="Random subnets to evaluate.")] = 0,
    arch: Annotated[
        list[str] | None, typer.Option(help="largest, smallest or a JSON file; may be repeated.")
    ] = None,
    metric: Annotated[
        list[str] | None, typer.Option(help="Another metric: a name or module:object; may be repeated.")
    ] = None,
    calibration_images: Annotated[int, typer.Option(min=1, help="Images for BN recalibration.")] = 512,
    seed: SeedOption = 0,
    dataset: DatasetOption = None,
    allow_import: AllowImport = False,
    json: JsonOption = False,
) -> None:
    """Evaluate subnets on the validation split, with inherited weights and recalibrated batch norms."""
    import numpy as np

    from nas.calibration import Calibration
    from nas.progress import shown

    trained = _open(run, dataset, allow_import)
    space = trained.space
    names = arch or ([] if samples else ["largest", "smallest"])
    archs = [_arch(space, name, seed) for name in names]
    archs += space.decode(space.sample(np.random.default_rng(seed), samples))
    with shown() as progress:
        evaluator = trained.evaluator(
            calibration=Calibration(calibration_images), extra_metrics=metric or (), progress=progress
        )
        results = evaluator(archs, "evaluate")
    trained.write_archive_csv()
    _show(
        [
            {"arch_id": a.id, **metrics, "macs": space.macs(a), "params": space.params(a)}
            for a, metrics in zip(archs, results, strict=True)
        ],
        json,
    )


def main() -> None:
    """Entry point; `--debug` may stand anywhere."""
    logging.basicConfig(format="%(levelname)s: %(message)s")
    app(args=sorted(sys.argv[1:], key=lambda argument: argument != "--debug"), prog_name="nas")


def _reason(error: ValueError | OSError) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return " ".join(str(error).split())


def _open(run: Path, dataset: str | None, allow_import: bool) -> TrainedRun:
    from nas.trained_run import TrainedRun

    return TrainedRun.open(run, dataset=dataset, allow_import=allow_import)


def _arch(space: Space, name: str, seed: int) -> Arch:
    """The arch that an option names: `largest`, `smallest`, `random` or a JSON file."""
    import numpy as np

    from search_spaces import Arch

    if name == "largest":
        return space.largest
    if name == "smallest":
        return space.smallest
    if name == "random":
        return space.decode(space.sample(np.random.default_rng(seed), 1))[0]
    arch = Arch.load(name)
    space.encode([arch])  # refuses what the space does not offer
    return arch


def _describe_arch(space: Space, arch: Arch, as_json: bool) -> None:
    rows = [
        {
            "block": layer.block,
            "layer": layer.name,
            "op": layer.op,
            "channels": f"{layer.c_in}>{layer.c_out}",
            "kernel": layer.kernel,
            "stride": layer.stride,
            "size": f"{layer.size_in}>{layer.size_out}",
            "activation": layer.activation,
            "macs": layer.macs,
            "params": layer.params,
        }
        for layer in space.layers(arch)
    ]
    totals = {"arch_id": arch.id, "macs": space.macs(arch), "params": space.params(arch)}
    if as_json:
        _print_json(totals | {"arch": json.loads(arch.to_json()), "layers": rows})
        return
    _show(rows, False)
    _line(f"{arch.id}: {totals['macs']:,} MACs, {totals['params']:,} parameters")
    _line(arch.to_json())


def _show(rows: list[dict[str, Any]], as_json: bool) -> None:
    """Print rows as a table, or as JSON."""
    if as_json:
        _print_json(rows)
        return
    from rich.console import Console
    from rich.table import Table

    console = Console()
    if not console.is_terminal:
        console.width = 200  # a log does not wrap
    table = Table(*(rows[0] if rows else ()))
    for row in rows:
        table.add_row(*(f"{v:.4g}" if isinstance(v, float) else str(v) for v in row.values()))
    console.print(table)


def _print_json(content: Any) -> None:
    _line(json.dumps(content))


def _line(text: str) -> None:
    sys.stdout.write(text + "\n")
