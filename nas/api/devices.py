"""`nas.profile` and `nas.benchmark`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from hw_profiles.connections.base import Connection
from hw_profiles.device import Device
from hw_profiles.run_settings import RunSettings
from hw_profiles.store import ProfileStore
from nas.devices import benchmark as benchmarks
from nas.devices.benchmark import BenchmarkRow
from nas.devices.model_files import Shape
from nas.devices.profiling import profile_device
from nas.progress import Progress, silent
from nas.runs.open_space import open_space
from search_spaces import Space


def profile(
    space: Space | str | Path,
    name: str,
    *,
    profiles: Path | None = None,
    connection: Connection | None = None,
    settings: RunSettings | None = None,
    n_held_out: int | None = None,
    seed: int = 0,
    resume: bool = True,
    merge: tuple[str | Device, str | Device] | None = None,
    progress: Progress = silent,
) -> Device:
    """Measure latencies on a device, fit its latency model to a space, and evaluate the predictions.

    Args:
        space: a space, its name or YAML file, or a run directory.
        name: name of the device.
        profiles: folder that the profile is written to; None: the user's folder.
        connection: how the device is reached; None: as in its profile, or this machine for a new device.
        settings: how networks are run; None: as in its profile, or the defaults for a new device.
        n_held_out: number of subnets that the predictions are evaluated on; None: 48, or none if only
            blocks are added to a profile.
        seed: seed of random weights, subnets and the order of trials.
        resume: False: measure all again and replace a profile with this name.
        merge: profiles of the device in fp32 and in INT8, or their names: make a mixed profile from them and
            measure only borders between precisions and whole subnets.
        progress: called after trials.

    Raises:
        hw_profiles.connections.base.NotMeasuredError: the device is measured offline.
        ValueError: the name belongs to another device, space or settings, or the device cannot be reached or
            computes wrong outputs.
    """
    store = ProfileStore(profiles)
    parts = [device if isinstance(device, Device) else store.load(device) for device in merge or ()]
    return profile_device(
        space if isinstance(space, Space) else open_space(space),
        name,
        store,
        connection=connection,
        settings=settings,
        n_held_out=n_held_out,
        seed=seed,
        resume=resume,
        progress=progress,
        merge=(parts[0], parts[1]) if parts else None,
    )


def benchmark(
    models: Sequence[Path],
    *,
    device: str | Device | None = None,
    profiles: Path | None = None,
    connection: Connection | None = None,
    settings: RunSettings | None = None,
    shapes: Mapping[str, Shape] | None = None,
    energy: bool = False,
    progress: Progress = silent,
) -> list[BenchmarkRow]:
    """Measure ONNX files, each alone in a fresh process; `latency_ms` is the figure that tables predict.

    Args:
        models: ONNX files.
        device: a profile or its name, to measure on that device with its settings; None: this machine.
        profiles: folder of profiles; None: the user's folder and the shipped profiles.
        connection: how the device is reached, instead of the connection in the profile.
        settings: how models are run on this machine.
        shapes: shapes of inputs by name, for inputs that leave dimensions other than the batch open.
        energy: measure the energy too, if the device has a counter.
        progress: called after each model.

    Raises:
        nas.devices.benchmark.BenchmarkError: some files cannot be measured; it holds the rows of the others.
        ValueError: the device is unknown, an option has no effect, or no model has an input in `shapes`.
    """
    if device is None:
        if profiles is not None or connection is not None:
            raise ValueError("profiles and connection have no effect without a device")
        return benchmarks.benchmark(
            models, settings=settings or RunSettings(), shapes=shapes, energy=energy, progress=progress
        )
    if settings is not None:
        raise ValueError("settings have no effect with a device, because its profile defines them")
    found = device if isinstance(device, Device) else ProfileStore(profiles).load(device)
    return benchmarks.benchmark_on(
        found.profile, models, connection=connection, shapes=shapes, energy=energy, progress=progress
    )
