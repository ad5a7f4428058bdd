"""The command line: each command reads its options and calls one function of the Python API.

Heavy packages are imported inside the commands, so that `nas --help` answers at once.
"""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nas.cli.arch import find_arch
from nas.cli.connection import BundleOption, ResultsOption, connection, told_what_to_carry
from nas.cli.devices import benchmark, profile
from nas.cli.finetune import finetune
from nas.cli.import_command import app as import_commands
from nas.cli.options import (
    AllowImport,
    DataRootOption,
    DatasetOption,
    JsonOption,
    ProfilesOption,
    RunArgument,
    SeedOption,
    SpaceOrRun,
)
from nas.cli.output import line, print_json, show
from nas.cli.pick import pick
from nas.cli.recipe_help import ExplainsRecipe

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
    show(rows, json)


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
        print_json(totals | {"stages": stages} | weights)
        return
    show(stages, json)
    line(
        f"{described.name}: {totals['subnets_per_resolution']:.3e} subnets, {len(described.genes)} genes; "
        f"{described.n_subnets:.3e} with the {len(described.resolutions)} resolution(s) "
        f"{' '.join(map(str, described.resolutions))}"
    )
    if described.n_codes != described.n_subnets:
        line(
            f"The published notation has {totals['codes_per_resolution']:.3e} codes without resolutions; "
            f"some of them give the same network."
        )
    if imported:
        line(imported.note)


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
    from nas.progress import shown
    from nas.training import recipe
    from nas.training.devices import is_first
    from nas.training.train import train as run_training

    changes = [*(set or ()), *([] if split_seed is None else [f"split_seed={split_seed}"])]
    changes += [] if init is None else [f"init={json.dumps(str(init))}"]
    loaded = recipe.load(config, changes)
    with shown(loaded.log_steps) as progress:
        run_training(loaded, out, resume=resume, progress=progress)
    if is_first():
        line(f"trained: {out}; next: nas evaluate {out}, or nas profile {loaded.space} --device NAME")


app.command()(finetune)


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

    from nas.evaluation.calibration import Calibration
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
    show(
        [
            {"arch_id": a.id, **metrics, "macs": space.macs(a), "params": space.params(a)}
            for a, metrics in zip(archs, results, strict=True)
        ],
        json,
    )
    if trained.info.imported and not json:
        line(trained.info.imported.note)


app.command()(profile)


@app.command()
def search(
    run: RunArgument,
    device: Annotated[
        list[str],
        typer.Option(
            metavar="NAME",
            help="A device profile; `nas profile` makes one. Repeated: a front for each, and the best subnet "
            "for all of them; the first one is this machine.",
        ),
    ],
    profiles: ProfilesOption = None,
    objective: Annotated[
        list[str] | None,
        typer.Option(
            help="cross_entropy, accuracy, latency_ms, macs, params, peak_memory_bytes, file_size_bytes, "
            "int8_file_size_bytes or module:object; may be repeated.",
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
        str,
        typer.Option(
            help="iterative, exact, predictor, linas, nsga2, regularized_evolution, coarse_to_fine, random "
            "or module:object."
        ),
    ] = "iterative",
    predictor: Annotated[
        list[str] | None,
        typer.Option(
            help="Candidates for the predictor: names or module:object; may be repeated.",
            show_default="all, chosen by cross-validation",
        ),
    ] = None,
    budget: Annotated[
        int | None,
        typer.Option(
            help="Real evaluations, fitting and validation included.", show_default="200, without --minutes"
        ),
    ] = None,
    minutes: Annotated[
        float | None, typer.Option(help="Begin no batch of evaluations later.", show_default=False)
    ] = None,
    warm_start: Annotated[
        Path | None,
        typer.Option(help="A searched run or a front's CSV file: its subnets first.", show_default=False),
    ] = None,
    workers: Annotated[
        str,
        typer.Option(help="Evaluate in threads (one per core), in this many processes, or on a ray cluster."),
    ] = "threads",
    unmeasured: Annotated[
        bool, typer.Option("--unmeasured", help="Leave the front as predicted, measure nothing.")
    ] = False,
    bundle: BundleOption = None,
    results: ResultsOption = None,
    seed: SeedOption = 0,
    dataset: DatasetOption = None,
    data_root: DataRootOption = None,
    allow_import: AllowImport = False,
    json: JsonOption = False,
) -> None:
    """Search the best subnets for a device; stopped, the same command goes on where it was."""
    from hw_profiles.store import ProfileStore
    from nas.evaluation.workers import workers as make_workers
    from nas.progress import shown
    from nas.search.search_problem import DEFAULT_OBJECTIVES
    from nas.search.search_run import search_run

    store = ProfileStore(profiles)
    found_device, *others = [store.load(name) for name in dict.fromkeys(device)]
    trained = _open(run, dataset, data_root, allow_import)
    with told_what_to_carry(json), shown() as progress:
        outcome = search_run(
            trained,
            found_device,
            others=others,
            objectives=objective or DEFAULT_OBJECTIVES,
            maxima=max or (),
            minima=min or (),
            algorithm=algorithm,
            predictors=predictor or (),
            budget=budget,
            minutes=minutes,
            warm_start=warm_start,
            workers=make_workers(workers),
            seed=seed,
            connection=connection(bundle=bundle, results=results),
            measure=not unmeasured,
            progress=progress,
        )
    rows = outcome.front.drop(columns=["arch", "feasible", "on_front"]).to_dict("records")
    show([{str(k): v for k, v in row.items()} for row in rows], json)
    if not json:
        record = outcome.predictor
        line(
            f"hypervolume {outcome.result.hypervolume:.4g}, random search {outcome.random.hypervolume:.4g}; "
            f"predictor {record.name}: Kendall tau {record.kendall_tau:.2f} on {record.n_held_out} held-out "
            f"subnets (ceiling {record.ceiling:.2f}); next: nas export {run} --pick knee"
        )
        if outcome.best_for_all:
            regrets = ", ".join(f"{name} {r:.3f}" for name, r in outcome.best_for_all["regret"].items())
            line(f"best for all devices: {outcome.best_for_all['arch_id']}, regret {regrets}")
        if outcome.waiting:
            line(f"{outcome.waiting} subnets that may belong to the front are not measured on {device} yet")


app.command()(pick)


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
    int8: Annotated[bool, typer.Option("--int8", help="Short for --precision int8.")] = False,
    precision: Annotated[
        str | None, typer.Option(help="fp32, fp16 or int8.", show_default="the device's, else fp32")
    ] = None,
    seed: SeedOption = 0,
    dataset: DatasetOption = None,
    data_root: DataRootOption = None,
    allow_import: AllowImport = False,
    json: JsonOption = False,
) -> None:
    """Write chosen subnets as files, checked against torch, each with a model card beside it."""
    from nas.deployment.export_run import export_archs, export_picked, exported_table
    from nas.progress import shown

    wanted = "int8" if int8 else precision
    trained = _open(run, dataset, data_root, allow_import)
    with shown() as progress:
        archs = [find_arch(trained.space, name, seed) for name in arch or ()]
        if trained.info.arch and not archs:
            archs = [trained.info.arch]
        if archs:
            exported = export_archs(
                trained,
                archs,
                format=format,
                dynamic_batch=dynamic_batch,
                precision=wanted,
                progress=progress,
            )
        else:
            exported = export_picked(
                trained, pick, format=format, dynamic_batch=dynamic_batch, precision=wanted, progress=progress
            )
    show([{str(k): v for k, v in row.items()} for row in exported_table(exported).to_dict("records")], json)


app.command()(benchmark)


@app.command()
def report(
    run: RunArgument,
    dataset: DatasetOption = None,
    data_root: DataRootOption = None,
    allow_import: AllowImport = False,
    json: JsonOption = False,
) -> None:
    """Read the test split and write everything that is known about a run into one HTML page."""
    from nas.progress import shown
    from nas.report.figures_of_merit import as_json
    from nas.report.report_run import report_run

    trained = _open(run, dataset, data_root, allow_import)
    with shown() as progress:
        path, figures = report_run(trained, progress=progress)
    show(as_json(figures), json)
    if not json:
        line(f"report: {path}")


@app.command()
def demo(
    seed: SeedOption = 0,
    out: Annotated[Path, typer.Option(help="Run directory to make.")] = Path("runs/demo"),
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a demo that was stopped.")] = False,
    json: JsonOption = False,
) -> None:
    """Do the whole job on handwritten digits: train, profile, search, export, benchmark, report."""
    from nas.demo import run_demo
    from nas.progress import shown
    from nas.report.figures_of_merit import as_json

    with shown() as progress:
        result = run_demo(out, seed=seed, resume=resume, progress=progress)
    show([{str(k): v for k, v in row.items()} for row in result.chosen.to_dict("records")], False)
    line(f"report: {result.report}")
    if json:
        figures = as_json(result.figures)
        print_json(
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
    from nas.onnx_files.file_size import FLOAT32, INT8

    layers = space.layers(arch)
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
        for layer in layers
    ]
    totals = {
        "arch_id": arch.id,
        "macs": space.macs(arch),
        "params": space.params(arch),
        "peak_memory_bytes": space.peak_memory_bytes(arch),
        "file_size_bytes": FLOAT32.of_file(layers),
        "int8_file_size_bytes": INT8.of_file(layers),
    }
    if as_json:
        print_json(totals | {"arch": json.loads(arch.to_json()), "layers": rows})
        return
    show(rows, False)
    line(
        f"{arch.id}: {totals['macs']:,} MACs, {totals['params']:,} parameters; "
        f"{totals['peak_memory_bytes']:,} bytes of activations alive at most (fp32, one image); "
        f"ONNX file about {totals['file_size_bytes']:,} bytes, in INT8 {totals['int8_file_size_bytes']:,}"
    )
    line(arch.to_json())
