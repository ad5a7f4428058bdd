"""The commands about devices: `nas profile` and `nas benchmark`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nas.cli.connection import (
    AdbOption,
    BundleOption,
    CommandOption,
    PatternOption,
    PythonOption,
    ResultsOption,
    RetriesOption,
    SshOption,
    SshOptionsOption,
    UnitOption,
    WholeOption,
    connection,
    exit_if_offline,
)
from nas.cli.open_run import open_space
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
    from nas.devices.benchmark import BenchmarkRow

_EARLIER = "the profile's, else {}"


def profile(
    space: SpaceOrRun,
    device: DeviceOption,
    profiles: ProfilesOption = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Threads of one operator.", show_default=_EARLIER.format(1))
    ] = None,
    batch: Annotated[
        int | None, typer.Option(min=1, help="Images at a time.", show_default=_EARLIER.format(1))
    ] = None,
    provider: Annotated[
        str | None,
        typer.Option(
            help="Execution provider of ONNX Runtime.", show_default=_EARLIER.format("CPUExecutionProvider")
        ),
    ] = None,
    fallback: FallbackOption = False,
    precision: Annotated[
        str | None, typer.Option(help="fp32, fp16 or int8.", show_default=_EARLIER.format("fp32"))
    ] = None,
    int8_for: Annotated[
        str | None,
        typer.Option(help="Write INT8 graphs for x86-vnni, x86 or arm.", show_default="what the device says"),
    ] = None,
    held_out: Annotated[int, typer.Option(min=8, help="Subnets that the predictions are judged on.")] = 48,
    seed: SeedOption = 0,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume/--restart",
            help="Go on with what an earlier call measured, or measure all again and replace a profile of "
            "this name.",
        ),
    ] = True,
    check: Annotated[
        bool,
        typer.Option(
            "--check",
            help="Measure a few subnets again and say whether the profile holds; exit code 1 if not.",
        ),
    ] = False,
    ssh: SshOption = None,
    ssh_option: SshOptionsOption = None,
    remote_python: PythonOption = None,
    adb: AdbOption = None,
    command: CommandOption = None,
    latency_pattern: PatternOption = None,
    latency_unit: UnitOption = "ms",
    retries: RetriesOption = 2,
    bundle: BundleOption = None,
    results: ResultsOption = None,
    whole: WholeOption = False,
    json: JsonOption = False,
) -> None:
    """Measure a device's latency for the subnets of a space or run, and how good its predictions are.

    Without options for it, the device is reached as its profile says; a new one is this machine. Where the
    device was profiled for the same space with other images, the lacking blocks alone are measured.
    """
    if check:
        _check(space, device, profiles, json)
        return
    from hw_profiles.profile_warnings import profile_warnings
    from hw_profiles.run_settings import RunSettings
    from hw_profiles.store import ProfileStore
    from nas.devices.earlier_profile import settings_of
    from nas.devices.profiling import profile_device
    from nas.onnx_backend.precision import check_precision
    from nas.progress import shown

    if precision:
        check_precision(precision)
    reached = connection(
        ssh=ssh,
        ssh_option=ssh_option,
        remote_python=remote_python,
        adb=adb,
        command=command,
        latency_pattern=latency_pattern,
        latency_unit=latency_unit,
        retries=retries,
        bundle=bundle,
        results=results,
        whole=whole,
    )
    given = {
        "threads": threads,
        "provider": provider,
        "fallback": fallback or None,
        "precision": precision,
        "int8_for": int8_for,
        "batch": batch,
    }
    measured_space, store = open_space(space), ProfileStore(profiles)
    there = settings_of(store.load(device) if device in store.names() else None)
    if precision not in (None, there.precision):
        there = there.model_copy(update={"int8_for": None})
    update = {name: value for name, value in given.items() if value is not None}
    settings = RunSettings.model_validate(there.model_dump() | update)
    with exit_if_offline(json), shown() as progress:
        measured = profile_device(
            measured_space,
            device,
            store,
            connection=reached,
            settings=settings,
            n_held_out=held_out,
            seed=seed,
            resume=resume,
            progress=progress,
        ).profile
    if json:
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
        json,
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
    for warning in profile_warnings(measured):
        line(warning)
    _say_next(space, device, profiles)


def _say_next(space: str, device: str, profiles: Path | None) -> None:
    """Name the search, unless what was profiled is a run of one subnet."""
    from nas.runs.commands import command
    from nas.runs.run_dir import RunDir

    run = RunDir(space)
    info = run.info() if run.created else None
    if info is None or info.arch is None:
        where = [] if profiles is None else ["--profiles", str(profiles)]
        data = info.data_options if info else []
        line(f"next: {command('search', space if info else 'RUN', '--device', device, *where, *data)}")


def _check(space: str, device: str, profiles: Path | None, json: bool) -> None:
    from hw_profiles.store import ProfileStore
    from nas.devices.profile_check import check_profile
    from nas.progress import shown

    checked = open_space(space)
    with shown() as progress:
        record = check_profile(
            checked, ProfileStore(profiles).load(device, checked.source), progress=progress
        )
    if json:
        print_json(record.model_dump())
    else:
        line(record.sentence)
    if record.verdict != "holds":
        raise typer.Exit(1)


def benchmark(
    models: Annotated[list[Path], typer.Argument(metavar="MODEL...", help="ONNX files.")],
    device: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Measure there, as its profile says.", show_default="this machine"),
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
            help="Shape of an input that the model leaves open, such as x=1,3,224,224; may be repeated.",
        ),
    ] = None,
    energy: Annotated[
        bool, typer.Option("--energy", help="Measure energy too, where there is a counter (RAPL, NVML, INA).")
    ] = False,
    bundle: BundleOption = None,
    results: ResultsOption = None,
    json: JsonOption = False,
) -> None:
    """Measure ONNX files, each alone in a fresh process; `latency_ms` is the figure that tables predict."""
    from hw_profiles.run_settings import RunSettings
    from hw_profiles.store import ProfileStore
    from nas.devices import benchmark as benchmarks
    from nas.devices.model_files import parse_shapes
    from nas.progress import shown

    settings = RunSettings(fallback=fallback)
    given = {name: value for name, value in (("threads", threads), ("provider", provider)) if value}
    settings = settings.model_copy(update=given)
    shapes = parse_shapes(shape or ())
    failed = None
    with exit_if_offline(json), shown() as progress:
        try:
            if device:
                rows = benchmarks.benchmark_on(
                    ProfileStore(profiles).load(device).profile,
                    models,
                    connection=connection(bundle=bundle, results=results),
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
        _show_benchmark(rows, energy, json)
    if failed:
        raise failed


def _show_benchmark(rows: Sequence[BenchmarkRow], energy: bool, json: bool) -> None:
    from dataclasses import asdict

    records = [_without_energy(asdict(row), energy) for row in rows]
    if json:
        show(records, json)
        return
    show([{name: value for name, value in row.items() if name != "warnings"} for row in records], json)
    for row in rows:
        for warning in row.warnings:
            line(f"{row.model}: {warning}")
    if energy and not any(row.energy_counter for row in rows):
        line("energy: not available here; no counter (RAPL, NVML, INA) may be read")


def _without_energy(row: dict[str, object], asked: bool) -> dict[str, object]:
    """The row without its columns about energy where nobody asked for them."""
    return {name: value for name, value in row.items() if asked or not name.startswith("energy")}
