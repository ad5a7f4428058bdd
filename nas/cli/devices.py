"""The commands `nas profile` and `nas benchmark`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nas.cli.connection import BundleOption, ConnectionOptions, ResultsOption, exit_if_offline
from nas.cli.option_groups import expand_option_groups
from nas.cli.options import (
    DeviceOption,
    FallbackOption,
    JsonOption,
    ProfilesOption,
    SeedOption,
    SpaceOrRun,
)
from nas.cli.output import line, print_json, show

if TYPE_CHECKING:
    from hw_profiles.latency_models.prediction_error import PrecisionErrors
    from nas.devices.benchmark import BenchmarkRow

_EARLIER = "as in the existing profile, otherwise {}"


@expand_option_groups
def profile(
    space: SpaceOrRun,
    device: DeviceOption,
    reached_by: ConnectionOptions,
    profiles: ProfilesOption = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Threads of one operator.", show_default=_EARLIER.format(1))
    ] = None,
    batch: Annotated[
        int | None, typer.Option(min=1, help="Number of images in a batch.", show_default=_EARLIER.format(1))
    ] = None,
    provider: Annotated[
        str | None,
        typer.Option(
            help="Execution provider of ONNX Runtime.", show_default=_EARLIER.format("CPUExecutionProvider")
        ),
    ] = None,
    fallback: FallbackOption = False,
    precision: Annotated[
        str | None,
        typer.Option(
            help="fp32, fp16, int8, or mixed: blocks in fp32 and in INT8, for `--bits`.",
            show_default=_EARLIER.format("fp32"),
        ),
    ] = None,
    int8_for: Annotated[
        str | None,
        typer.Option(
            help="Write INT8 graphs for x86-vnni, x86 or arm.", show_default="the one that the device reports"
        ),
    ] = None,
    merge: Annotated[
        tuple[str, str] | None,
        typer.Option(
            metavar="FP32_DEVICE INT8_DEVICE",
            help="Make a mixed profile from two profiles of the same device: only borders between precisions "
            "and whole subnets are measured.",
        ),
    ] = None,
    held_out: Annotated[
        int | None,
        typer.Option(
            min=8, help="Number of subnets for measuring the error of predictions.", show_default="48"
        ),
    ] = None,
    seed: SeedOption = 0,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume/--restart",
            help="Continue an interrupted call, or measure everything again and replace the profile of this "
            "name.",
        ),
    ] = True,
    check: Annotated[
        bool,
        typer.Option(
            "--check",
            help="Measure a few subnets again and report whether the profile is valid; exit code 1 if not.",
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Measure the latency of subnets on a device, and the error of its latency predictions.

    Without connection options, the device is reached as its profile says; a new one is this machine. If the
    device has a profile of the same space for other images, only the missing blocks are measured.
    """
    if check:
        _check(space, device, profiles, as_json)
        return
    from hw_profiles.profile_warnings import profile_warnings
    from hw_profiles.run_settings import RunSettings
    from hw_profiles.store import ProfileStore
    from nas.devices.earlier_profile import settings_of
    from nas.devices.profiling import profile_device
    from nas.onnx_backend.precision import check_precision
    from nas.progress import shown
    from nas.runs.open_space import open_space

    if precision:
        check_precision(precision)
    connection = reached_by.connection()
    store = ProfileStore(profiles)
    parts = (store.load(merge[0], space), store.load(merge[1], space)) if merge else None
    options = {
        "threads": threads,
        "provider": provider,
        "fallback": fallback or None,
        "precision": precision,
        "int8_for": int8_for,
        "batch": batch,
    }
    measured_space = open_space(space)
    profiled = settings_of(store.load(device) if device in store.names() else None)
    if precision not in (None, profiled.precision):
        profiled = profiled.model_copy(update={"int8_for": None})
    update = {name: value for name, value in options.items() if value is not None}
    settings = RunSettings.model_validate(profiled.model_dump() | update)
    with exit_if_offline(as_json), shown() as progress:
        measured = profile_device(
            measured_space,
            device,
            store,
            connection=connection,
            settings=settings,
            n_held_out=held_out,
            seed=seed,
            resume=resume,
            progress=progress,
            merge=parts,
        ).profile
    if as_json:
        print_json(measured.model_dump(mode="json"))
        return
    show(
        [
            {"predicted by": name, **{k: v for k, v in record.model_dump().items() if k != "n"}}
            for name, record in (
                (measured.latency_model, measured.held_out),
                ("MACs alone", measured.held_out_macs),
            )
        ],
        as_json,
    )
    floor = (
        "measured once"
        if measured.noise_floor is None
        else f"measuring again differs by {measured.noise_floor:.2%}"
    )
    line(
        f"{device}: {measured.n_blocks} blocks in {measured.seconds:.0f} s, errors on {measured.held_out.n} "
        f"held-out subnets; {floor}"
    )
    if measured.precisions:
        line(_by_precision(measured.precisions))
    for warning in profile_warnings(measured):
        line(warning)
    _print_next_command(space, device, profiles)


def _by_precision(errors: PrecisionErrors) -> str:
    """The errors of a mixed profile by precision, as a sentence."""
    groups = ", ".join(
        f"{name} {record.mape:.2%}"
        + (f" (again {errors.noise_floor[name]:.2%})" if name in errors.noise_floor else "")
        for name, record in (("fp32", errors.fp32), ("int8", errors.int8), ("mixed", errors.mixed))
    )
    slope = errors.error_per_border
    return (
        f"mean error by precision: {groups}; each border changes the error by {slope.value:+.2%} "
        f"(95 % interval {slope.low:+.2%} to {slope.high:+.2%})"
    )


def _print_next_command(space: str, device: str, profiles: Path | None) -> None:
    """Print `nas search` as the next command, unless the profiled run has only one subnet."""
    from nas.runs.commands import command
    from nas.runs.run_dir import RunDir

    run = RunDir(space)
    info = run.info() if run.created else None
    if info is None or info.arch is None:
        where = [] if profiles is None else ["--profiles", str(profiles)]
        data = info.data_options if info else []
        line(f"next: {command('search', space if info else 'RUN', '--device', device, *where, *data)}")


def _check(space: str, device: str, profiles: Path | None, as_json: bool) -> None:
    from hw_profiles.store import ProfileStore
    from nas.devices.profile_check import check_profile
    from nas.progress import shown
    from nas.runs.open_space import open_space

    checked = open_space(space)
    with shown() as progress:
        record = check_profile(
            checked, ProfileStore(profiles).load(device, checked.source), progress=progress
        )
    if as_json:
        print_json(record.model_dump())
    else:
        line(record.sentence)
    if record.verdict != "holds":
        raise typer.Exit(1)


def benchmark(
    models: Annotated[list[Path], typer.Argument(metavar="MODEL...", help="ONNX files.")],
    device: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Device to measure, with the connection of its profile.",
            show_default="this machine",
        ),
    ] = None,
    profiles: ProfilesOption = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads of one operator.")] = None,
    provider: Annotated[str | None, typer.Option(help="Execution provider of ONNX Runtime.")] = None,
    fallback: FallbackOption = False,
    shape: Annotated[
        list[str] | None,
        typer.Option(
            "--shape",
            metavar="NAME=DIM,...",
            help="Shape of an input with open dimensions, such as x=1,3,224,224; may be repeated.",
        ),
    ] = None,
    energy: Annotated[
        bool,
        typer.Option("--energy", help="Measure energy too, if the device has a counter (RAPL, NVML, INA)."),
    ] = False,
    bundle: BundleOption = None,
    results: ResultsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure ONNX files, each alone in a fresh process; `latency_ms` is the figure that tables predict."""
    from hw_profiles.run_settings import RunSettings
    from hw_profiles.store import ProfileStore
    from nas.devices import benchmark as benchmarks
    from nas.devices.model_files import parse_shapes
    from nas.progress import shown

    settings = RunSettings(fallback=fallback)
    options = {name: value for name, value in (("threads", threads), ("provider", provider)) if value}
    settings = settings.model_copy(update=options)
    shapes = parse_shapes(shape or ())
    failed = None
    with exit_if_offline(as_json), shown() as progress:
        try:
            if device:
                rows = benchmarks.benchmark_on(
                    ProfileStore(profiles).load(device).profile,
                    models,
                    connection=ConnectionOptions(bundle=bundle, results=results).connection(),
                    shapes=shapes,
                    energy=energy,
                    progress=progress,
                )
            else:
                rows = benchmarks.benchmark(
                    models, settings=settings, shapes=shapes, energy=energy, progress=progress
                )
        except benchmarks.BenchmarkError as error:
            rows, failed = error.rows, error
    if rows:
        _show_benchmark(rows, energy, as_json)
    if failed:
        raise failed


def _show_benchmark(rows: Sequence[BenchmarkRow], energy: bool, as_json: bool) -> None:
    from dataclasses import asdict

    records = [_without_energy(asdict(row), energy) for row in rows]
    if as_json:
        show(records, as_json)
        return
    show([{name: value for name, value in row.items() if name != "warnings"} for row in records], as_json)
    for row in rows:
        for warning in row.warnings:
            line(f"{row.model}: {warning}")
    if energy and not any(row.energy_counter for row in rows):
        line("energy: not available, because no readable counter (RAPL, NVML, INA) was found")


def _without_energy(row: dict[str, object], asked: bool) -> dict[str, object]:
    """The row without its energy columns, unless energy was requested."""
    return {name: value for name, value in row.items() if asked or not name.startswith("energy")}
