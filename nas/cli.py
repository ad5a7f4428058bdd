"""The command line: each command reads its options and calls one function of the Python API.

Heavy packages are imported inside the commands, so that `nas --help` answers at once.
"""

from __future__ import annotations

import json
import logging
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nas.cli_arch import find_arch
from nas.cli_finetune import finetune
from nas.cli_import import app as import_commands
from nas.cli_recipe_help import ExplainsRecipe

if TYPE_CHECKING:
    from nas.run_dir import Imported
    from nas.trained_run import TrainedRun
    from search_spaces import Arch, Space


INTERRUPTED = 130
"""Exit code after Ctrl-C: 128 and the number of SIGINT, as shells have it."""

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Train one elastic supernet; for every device, search the best subnets under its measured latency, "
    "export them to ONNX and benchmark them.",
)

app.add_typer(import_commands, name="import")
app.command()(finetune)

RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="Run directory that `nas train` made.")]
SpaceOrRun = Annotated[
    str, typer.Argument(metavar="SPACE", help="Name (see `nas spaces`), YAML file or run directory.")
]
SpaceArgument = Annotated[str, typer.Argument(metavar="SPACE", help="Name (see `nas spaces`) or YAML file.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON for programs.")]
DataRootOption = Annotated[
    Path | None,
    typer.Option(help="Where the run's images are now.", show_default="where the run recorded them"),
]
DatasetOption = Annotated[
    str | None, typer.Option(help="Gives a run's own data set again, as module:object.", show_default=False)
]
AllowImport = Annotated[
    bool, typer.Option("--allow-import", help="Import code outside the toolkit that the run names.")
]
SeedOption = Annotated[int, typer.Option(min=0, help="Equal seeds give equal results.")]
DeviceOption = Annotated[str, typer.Option(metavar="NAME", help="A device profile; `nas profile` makes one.")]
ProfilesOption = Annotated[
    Path | None, typer.Option(help="Folder of device profiles.", show_default="in your data folder")
]


@app.callback()
def _common(
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of an error; may stand anywhere.")
    ] = False,
) -> None:
    """For `--help` alone: `main` reads the option before typer does."""


@app.command()
def spaces(json: JsonOption = False) -> None:
    """List the search spaces that are shipped."""
    import search_spaces

    found = [search_spaces.get(name) for name in search_spaces.names()]
    rows = [
        {
            "space": space.name,
            "subnets": float(space.n_subnets),
            "resolutions": list(space.resolutions),
            "min_macs": space.macs(space.smallest),
            "max_macs": space.macs(space.largest),
            "description": space.config.description,
        }
        for space in found
    ]
    _show(rows, json)


@app.command()
def describe(
    space: SpaceOrRun,
    arch: Annotated[
        str | None,
        typer.Option(help="largest, smallest, random, or a JSON file: show its layers.", show_default=False),
    ] = None,
    seed: SeedOption = 0,
    json: JsonOption = False,
) -> None:
    """Show a space's slots and number of subnets, or the layers and costs of one arch."""
    described, imported = _described(space)
    if arch is not None:
        _describe_arch(described, find_arch(described, arch, seed), json)
        return
    stages = described.stages()
    totals = {
        "space": described.name,
        "subnets": described.n_subnets,
        "subnets_per_resolution": described.n_subnets // len(described.resolutions),
        "codes_per_resolution": described.n_codes // len(described.resolutions),
        "resolutions": described.resolutions,
        "genes": len(described.genes),
    }
    if json:
        weights = {"imported": imported.model_dump()} if imported else {}
        _print_json(totals | {"stages": stages} | weights)
        return
    _show(stages, json)
    _line(
        f"{described.name}: {totals['subnets_per_resolution']:.3e} subnets, {len(described.genes)} genes; "
        f"{described.n_subnets:.3e} with the {len(described.resolutions)} resolution(s) "
        f"{' '.join(map(str, described.resolutions))}"
    )
    if described.n_codes != described.n_subnets:
        _line(
            f"The published notation has {totals['codes_per_resolution']:.3e} codes without resolutions; "
            f"some of them give the same network."
        )
    if imported:
        _line(imported.note)


@app.command(cls=ExplainsRecipe)
def train(
    config: Annotated[str, typer.Option(help="Name of a recipe that is shipped, or a YAML file.")],
    out: Annotated[Path, typer.Option(help="Run directory to make.")],
    set: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="Change a key of the recipe.")
    ] = None,
    init: Annotated[
        Path | None,
        typer.Option(
            metavar="RUN",
            help="Begin with this run's weights: of the same space, perhaps trained on other data.",
            show_default="random weights",
        ),
    ] = None,
    split_seed: Annotated[
        int | None,
        typer.Option(help="Draw other train, validation and test splits.", show_default="recipe's"),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with RUN; a missing or empty one is started.")
    ] = False,
) -> None:
    """Train a supernet."""
    from nas import recipe
    from nas.progress import shown
    from nas.train import train as run_training
    from nas.training.devices import is_first

    changes = [*(set or ()), *([] if split_seed is None else [f"split_seed={split_seed}"])]
    changes += [] if init is None else [f"init={json.dumps(str(init))}"]
    loaded = recipe.load(config, changes)
    with shown(loaded.log_steps) as progress:
        run_training(loaded, out, resume=resume, progress=progress)
    if is_first():
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
    calibration: Annotated[
        str, typer.Option(help="BN recalibration: default (clean images), ofa, attentivenas or alphanet.")
    ] = "default",
    calibration_images: Annotated[
        int | None, typer.Option(min=1, help="Its images.", show_default="as the method has them")
    ] = None,
    seed: SeedOption = 0,
    dataset: DatasetOption = None,
    data_root: DataRootOption = None,
    allow_import: AllowImport = False,
    json: JsonOption = False,
) -> None:
    """Evaluate subnets on the validation split, with inherited weights and recalibrated batch norms."""
    import numpy as np

    from nas.calibration import Calibration
    from nas.progress import shown

    trained = _open(run, dataset, data_root, allow_import)
    space = trained.space
    archs = [find_arch(space, name, seed) for name in arch or ()]
    if not arch and not samples:
        archs = trained.notable_archs
    archs += space.decode(space.sample(np.random.default_rng(seed), samples))
    with shown() as progress:
        evaluator = trained.evaluator(
            calibration=Calibration(calibration_images, method=calibration),
            extra_metrics=metric or (),
            progress=progress,
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
    if trained.info.imported and not json:
        _line(trained.info.imported.note)


@app.command()
def profile(
    space: SpaceArgument,
    device: DeviceOption,
    profiles: ProfilesOption = None,
    threads: Annotated[int, typer.Option(min=1, help="Threads of one operator.")] = 1,
    batch: Annotated[int, typer.Option(min=1, help="Images at a time.")] = 1,
    provider: Annotated[
        str, typer.Option(help="Execution provider of ONNX Runtime.")
    ] = "CPUExecutionProvider",
    seed: SeedOption = 0,
    resume: Annotated[
        bool, typer.Option("--resume/--restart", help="Go on with visits that an earlier call finished.")
    ] = True,
    json: JsonOption = False,
) -> None:
    """Measure this machine's latency table for a space, and how good it is."""
    import search_spaces
    from hw_profiles.store import ProfileStore
    from nas.profiling import profile_device
    from nas.progress import shown

    with shown() as progress:
        measured = profile_device(
            search_spaces.get(space),
            device,
            ProfileStore(profiles),
            threads=threads,
            batch=batch,
            provider=provider,
            seed=seed,
            resume=resume,
            progress=progress,
        ).profile
    if json:
        _print_json(measured.model_dump(mode="json"))
        return
    _show(
        [
            {"predicted by": name, **{k: v for k, v in record.model_dump().items() if k != "n"}}
            for name, record in (("table", measured.held_out), ("MACs alone", measured.held_out_macs))
        ],
        json,
    )
    noisy = "; machine too noisy, these figures mean nothing" if measured.too_noisy else ""
    _line(
        f"{device}: {measured.n_blocks} blocks in {measured.seconds:.0f} s, errors on {measured.held_out.n} "
        f"held-out subnets; measuring again differs by {measured.noise_floor:.2%}{noisy}"
    )


@app.command()
def search(
    run: RunArgument,
    device: DeviceOption,
    profiles: ProfilesOption = None,
    objective: Annotated[
        list[str] | None,
        typer.Option(
            help="cross_entropy, accuracy, latency_ms, macs, params or module:object; may be repeated.",
            show_default="cross_entropy and latency_ms",
        ),
    ] = None,
    max: Annotated[
        list[str] | None, typer.Option(metavar="NAME=NUMBER", help="Upper limit, such as latency_ms=2.")
    ] = None,
    min: Annotated[
        list[str] | None, typer.Option(metavar="NAME=NUMBER", help="Lower limit, such as accuracy=0.95.")
    ] = None,
    algorithm: Annotated[
        str, typer.Option(help="iterative, predictor, nsga2, random or module:object.")
    ] = "iterative",
    predictor: Annotated[
        list[str] | None,
        typer.Option(
            help="Candidates for the predictor: names or module:object; may be repeated.",
            show_default="all, chosen by cross-validation",
        ),
    ] = None,
    budget: Annotated[int, typer.Option(help="Real evaluations, fitting and validation included.")] = 200,
    seed: SeedOption = 0,
    dataset: DatasetOption = None,
    data_root: DataRootOption = None,
    allow_import: AllowImport = False,
    json: JsonOption = False,
) -> None:
    """Search the best subnets for a device; stopped, the same command goes on where it was."""
    from hw_profiles.store import ProfileStore
    from nas.progress import shown
    from nas.search_run import DEFAULT_OBJECTIVES, search_run

    found_device = ProfileStore(profiles).load(device)
    trained = _open(run, dataset, data_root, allow_import)
    with shown() as progress:
        outcome = search_run(
            trained,
            found_device,
            objectives=objective or DEFAULT_OBJECTIVES,
            maxima=max or (),
            minima=min or (),
            algorithm=algorithm,
            predictors=predictor or (),
            budget=budget,
            seed=seed,
            progress=progress,
        )
    rows = outcome.front.drop(columns=["arch", "feasible", "on_front"]).to_dict("records")
    _show([{str(k): v for k, v in row.items()} for row in rows], json)
    if not json:
        record = outcome.predictor
        _line(
            f"hypervolume {outcome.result.hypervolume:.4g}, random search {outcome.random.hypervolume:.4g}; "
            f"predictor {record.name}: Kendall tau {record.kendall_tau:.2f} on {record.n_held_out} held-out "
            f"subnets (ceiling {record.ceiling:.2f}); next: nas export {run} --pick knee"
        )


@app.command()
def export(
    run: RunArgument,
    pick: Annotated[
        str,
        typer.Option(
            help="knee (best compromise), first or last (best in the first or last objective), spread (five "
            "from end to end), all, or ids of subnets with commas between."
        ),
    ] = "knee",
    arch: Annotated[
        list[str] | None,
        typer.Option(help="Instead: largest, smallest, random or a JSON file; may be repeated."),
    ] = None,
    format: Annotated[
        str, typer.Option(help="onnx, or torch (a torch.export file that torch alone loads).")
    ] = "onnx",
    dynamic_batch: Annotated[
        bool, typer.Option("--dynamic-batch", help="Leave the batch open instead of the device's.")
    ] = False,
    seed: SeedOption = 0,
    dataset: DatasetOption = None,
    data_root: DataRootOption = None,
    allow_import: AllowImport = False,
    json: JsonOption = False,
) -> None:
    """Write chosen subnets as files, checked against torch, each with a model card beside it."""
    from nas.export_run import export_archs, export_picked, exported_table
    from nas.progress import shown

    trained = _open(run, dataset, data_root, allow_import)
    with shown() as progress:
        archs = [find_arch(trained.space, name, seed) for name in arch or ()]
        if trained.info.arch and not archs:
            archs = [trained.info.arch]
        if archs:
            exported = export_archs(
                trained, archs, format=format, dynamic_batch=dynamic_batch, progress=progress
            )
        else:
            exported = export_picked(
                trained, pick, format=format, dynamic_batch=dynamic_batch, progress=progress
            )
    _show([{str(k): v for k, v in row.items()} for row in exported_table(exported).to_dict("records")], json)


@app.command()
def benchmark(
    models: Annotated[list[Path], typer.Argument(metavar="MODEL...", help="ONNX files.")],
    threads: Annotated[int, typer.Option(min=1, help="Threads of one operator.")] = 1,
    provider: Annotated[
        str, typer.Option(help="Execution provider of ONNX Runtime.")
    ] = "CPUExecutionProvider",
    json: JsonOption = False,
) -> None:
    """Measure ONNX files, each alone in a fresh process; `latency_ms` is the figure that tables predict."""
    from dataclasses import asdict

    from nas.benchmark import benchmark as run_benchmark
    from nas.progress import shown

    with shown() as progress:
        rows = run_benchmark(models, threads=threads, provider=provider, progress=progress)
    _show([asdict(row) for row in rows], json)


@app.command()
def report(
    run: RunArgument,
    dataset: DatasetOption = None,
    data_root: DataRootOption = None,
    allow_import: AllowImport = False,
    json: JsonOption = False,
) -> None:
    """Read the test split and write everything that is known about a run into one HTML page."""
    from nas.figures_of_merit import as_json
    from nas.progress import shown
    from nas.report_run import report_run

    trained = _open(run, dataset, data_root, allow_import)
    with shown() as progress:
        path, figures = report_run(trained, progress=progress)
    _show(as_json(figures), json)
    if not json:
        _line(f"report: {path}")


@app.command()
def demo(
    seed: SeedOption = 0,
    out: Annotated[Path, typer.Option(help="Run directory to make.")] = Path("runs/demo"),
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a demo that was stopped.")] = False,
    json: JsonOption = False,
) -> None:
    """Do the whole job on handwritten digits: train, profile, search, export, benchmark, report."""
    from nas.demo import run_demo
    from nas.figures_of_merit import as_json
    from nas.progress import shown

    with shown() as progress:
        result = run_demo(out, seed=seed, resume=resume, progress=progress)
    _show([{str(k): v for k, v in row.items()} for row in result.chosen.to_dict("records")], False)
    _line(f"report: {result.report}")
    if json:
        figures = as_json(result.figures)
        _print_json(
            {"seed": seed, "seconds": result.seconds, "report": str(result.report), "figures": figures}
        )


def main() -> None:
    """Entry point: an error that a user can cause is one line on standard error and exit code 2."""
    logging.basicConfig(format="%(levelname)s: %(message)s")
    logging.getLogger("nas").setLevel(logging.INFO)
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    try:
        code = app(args=arguments or ["--help"], prog_name="nas", standalone_mode=False)
    except (typer.TyperException, ValueError, OSError) as error:
        if "--debug" in sys.argv:
            raise
        sys.stderr.write(f"error: {_reason(error)}\n")
        sys.exit(2)
    if code == INTERRUPTED:
        sys.stderr.write(
            "stopped; what was finished is kept: the same command goes on, train and demo with --resume\n"
        )
    sys.exit(code)


def _reason(error: typer.TyperException | ValueError | OSError) -> str:
    if isinstance(error, typer.TyperException):
        return error.format_message()
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return " ".join(str(error).split())


def _open(run: Path, dataset: str | None, data_root: Path | None, allow_import: bool) -> TrainedRun:
    from nas.trained_run import TrainedRun

    return TrainedRun.open(run, dataset=dataset, data_root=data_root, allow_import=allow_import)


def _described(name: str) -> tuple[Space, Imported | None]:
    """The space of this name, file or run, and where the run's weights come from if not from training."""
    import search_spaces
    from nas.run_dir import RunDir

    if Path(name).is_dir():
        run = RunDir.open(name)
        return run.space(), run.info().imported
    return search_spaces.get(name), None


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
        table.add_row(*map(_cell, row.values()))
    console.print(table)


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def _print_json(content: Any) -> None:
    _line(json.dumps(_finite(content), allow_nan=False))


def _finite(content: Any) -> Any:
    """The content with null for what JSON has no number for."""
    if isinstance(content, dict):
        return {key: _finite(value) for key, value in content.items()}
    if isinstance(content, list):
        return [_finite(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content


def _line(text: str) -> None:
    sys.stdout.write(text + "\n")
