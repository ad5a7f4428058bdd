"""The command `nas search`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nas.cli.connection import BundleOption, ConnectionOptions, ResultsOption, exit_if_offline
from nas.cli.open_run import open_run
from nas.cli.options import (
    AcceleratorOption,
    AllowImport,
    DataRootOption,
    DatasetOption,
    JsonOption,
    PrecisionOption,
    ProfilesOption,
    RunArgument,
    SeedOption,
)
from nas.cli.output import line, print_json, records, show

if TYPE_CHECKING:
    from nas.search.search_outcome import SearchOutcome


def search(
    run: RunArgument,
    device: Annotated[
        list[str],
        typer.Option(
            metavar="NAME",
            help="A device profile; `nas profile` creates one. If repeated: a front for each device, and the "
            "best subnet for all of them. The front is measured on the first device.",
        ),
    ],
    profiles: ProfilesOption = None,
    objective: Annotated[
        list[str] | None,
        typer.Option(
            help="A metric of the task (classification: cross_entropy or accuracy), latency_ms, macs, "
            "params, peak_memory_bytes, file_size_bytes, "
            "int8_file_size_bytes or module:object; may be repeated.",
            show_default="the task's primary metric (cross_entropy) and latency_ms",
        ),
    ] = None,
    maxima: Annotated[
        list[str] | None,
        typer.Option("--max", metavar="NAME=NUMBER", help="Upper limit, such as latency_ms=2."),
    ] = None,
    minima: Annotated[
        list[str] | None,
        typer.Option("--min", metavar="NAME=NUMBER", help="Lower limit, such as accuracy=0.95."),
    ] = None,
    algorithm: Annotated[
        str,
        typer.Option(
            help="iterative (recommended); exact, the whole front of an additive surrogate; nsga2; random; "
            "to reproduce papers: predictor (OFA), linas (LINAS), regularized_evolution (Real et al. 2019), "
            "coarse_to_fine (BigNAS); or module:object."
        ),
    ] = "iterative",
    predictor: Annotated[
        list[str] | None,
        typer.Option(
            help="Candidates for the predictor: gaussian_process, ridge, gradient_boosting, ensemble, "
            "support_vectors, mlp or module:object; may be repeated.",
            show_default="the first four, chosen by cross-validation",
        ),
    ] = None,
    budget: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Number of evaluations of the search; the random baseline and the noise ceiling are extra.",
            show_default="200, without --minutes",
        ),
    ] = None,
    minutes: Annotated[
        float | None,
        typer.Option(
            help="Time for all evaluations, half of it for the search if there is a baseline. Measurements "
            "on the device are not included.",
            show_default=False,
        ),
    ] = None,
    validation_images: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Evaluate on a fixed stratified part of the validation images. Results on different parts "
            "are not compared.",
            show_default="all",
        ),
    ] = None,
    screen_images: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Evaluate all subnets on this many validation images, then the front and the subnets near "
            "it on all validation images.",
            show_default=False,
        ),
    ] = None,
    baseline: Annotated[
        str | None,
        typer.Option(
            help="random: evaluate equally many random subnets, for comparison with the search.",
            show_default="none",
        ),
    ] = None,
    noise_ceiling: Annotated[
        int,
        typer.Option(
            min=0,
            help="Number of subnets to evaluate again with other calibration images; their rank "
            "correlation is the highest that the predictor can be expected to reach.",
        ),
    ] = 0,
    bits: Annotated[
        str | None,
        typer.Option(
            metavar="from|stage|block",
            help="Search the precision, fp32 or INT8, together with the architecture: one border up to which "
            "the network is in fp32 (from), or the precision of each stage or block. Needs a device profile "
            "of mixed precision.",
            show_default="from, for such a profile",
        ),
    ] = None,
    int8_evaluations: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="How many of the evaluations are made as deployed, with INT8, if the precision is searched. "
            "The front is evaluated as deployed in addition.",
            show_default="50, but at most an eighth of all",
        ),
    ] = None,
    warm_start: Annotated[
        Path | None,
        typer.Option(
            help="A searched run or the CSV file of a front: its subnets are evaluated first.",
            show_default=False,
        ),
    ] = None,
    workers: Annotated[
        str,
        typer.Option(help="threads (one per core), a number of processes, or ray for a Ray cluster."),
    ] = "threads",
    accelerator: AcceleratorOption = "auto",
    precision: PrecisionOption = "32-true",
    unmeasured: Annotated[
        bool, typer.Option("--unmeasured", help="Do not measure the front on the device.")
    ] = False,
    bundle: BundleOption = None,
    results: ResultsOption = None,
    seed: SeedOption = 0,
    dataset: DatasetOption = None,
    data_root: DataRootOption = None,
    allow_import: AllowImport = False,
    as_json: JsonOption = False,
) -> None:
    """Search for the best subnets for a device. After an interruption, the same command continues."""
    from nas.devices.find_device import find_device
    from nas.evaluation.workers import workers as make_workers
    from nas.progress import shown
    from nas.runs.commands import command, data_options
    from nas.runs.run_dir import RunDir
    from nas.search.options import SearchOptions, checked_grain
    from nas.search.search_run import search_run

    first, *others = [find_device(RunDir(run), name, profiles) for name in dict.fromkeys(device)]
    trained = open_run(run, dataset, data_root, allow_import).with_accelerator(accelerator, precision)
    with exit_if_offline(as_json), shown() as progress:
        options = SearchOptions(
            objectives=objective or (),
            maxima=maxima or (),
            minima=minima or (),
            algorithm=algorithm,
            predictors=predictor or (),
            budget=budget,
            minutes=minutes,
            validation_images=validation_images,
            screen_images=screen_images,
            baseline=baseline,
            noise_ceiling=noise_ceiling,
            bits=checked_grain(bits),
            int8_evaluations=int8_evaluations,
            warm_start=warm_start,
            seed=seed,
        )
        outcome = search_run(
            trained,
            first,
            options,
            others=others,
            workers=make_workers(workers, accelerator),
            connection=ConnectionOptions(bundle=bundle, results=results).connection(),
            measure=not unmeasured,
            progress=progress,
        )
    front = records(outcome.front.drop(columns=["arch", "feasible", "on_front"]))
    if as_json:
        print_json(_summary(outcome, front))
    else:
        show(front, False)
        parts = (
            f"hypervolume {outcome.result.hypervolume:.4g}",
            _baseline(outcome),
            _predictor(outcome, given=bool(predictor)),
        )
        line("; ".join(part for part in parts if part))
        choice = "knee"
        if not outcome.front["keeps_limits"].any():
            line("no subnet of the front satisfies the limits when measured; search with wider limits")
            choice = outcome.front["arch_id"][0]
        data = data_options(dataset, data_root, allow_import=allow_import)
        line(f"next: {command('export', run, '--pick', choice, *data)}")
        if outcome.best_for_all:
            regrets = ", ".join(f"{name} {r:.3f}" for name, r in outcome.best_for_all["regret"].items())
            line(f"best for all devices: {outcome.best_for_all['arch_id']}, regret {regrets}")
        if outcome.own.waiting:
            line(
                f"{outcome.own.waiting} subnets that may belong to the front have not been measured on "
                f"{outcome.own.name}"
            )


def _summary(outcome: SearchOutcome, front: list[dict[str, Any]]) -> dict[str, Any]:
    """The result for JSON."""
    from nas.search.outcome_files import baseline_record

    random, predictor = outcome.random, outcome.predictor
    return {
        "front": front,
        "hypervolume": outcome.result.hypervolume,
        "baseline": baseline_record(random),
        "predictor": predictor.model_dump(mode="json") if predictor else None,
        "cost": outcome.cost.record(),
    }


def _baseline(outcome: SearchOutcome) -> str:
    if outcome.random is None:
        return f"no random baseline: {outcome.no_baseline}" if outcome.no_baseline else ""
    n, n_search = len(outcome.random.evaluations), len(outcome.result.evaluations)
    fewer = f" with {n} of {n_search} evaluations" if n < n_search else ""
    return f"random search {outcome.random.hypervolume:.4g}{fewer}"


def _predictor(outcome: SearchOutcome, *, given: bool) -> str:
    record = outcome.predictor
    if record is None:
        return "no predictor was fitted: the search ended with its initial evaluations" if given else ""
    before, ceiling = record.before_evaluation, record.ceiling
    return (
        f"predictor {record.name}: Kendall tau {record.cross_validation.kendall_tau:.2f} in cross-validation"
        + (f", {before.kendall_tau:.2f} before evaluation" if before else "")
        + (f", ceiling {ceiling.kendall_tau:.2f}" if ceiling else "")
    )
