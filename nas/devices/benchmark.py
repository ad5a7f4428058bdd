"""Measures the latency of ONNX files, and reads the predicted latency if a file contains it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from hw_profiles.connections.base import Connection
from hw_profiles.connections.local import Local
from hw_profiles.measuring import session
from hw_profiles.measuring.bundle import BundleContent, BundledModel, alone_plan, write_bundle
from hw_profiles.measuring.results import AloneFigures, Results
from hw_profiles.measuring.runner.providers import CPU
from hw_profiles.measuring.timing_warnings import timing_warnings
from hw_profiles.profile import DeviceProfile
from hw_profiles.run_settings import RunSettings
from nas.devices.check_images import noise_images
from nas.devices.model_files import ModelFile, Shape, read_model
from nas.progress import Progress, silent

PREDICTED, DEVICE = "predicted_latency_ms", "device"
"""Keys of the ONNX metadata written by `nas export`."""
DEFAULT_SETTINGS = RunSettings()


@dataclass(frozen=True)
class BenchmarkRow:
    """The measurement of one model alone in a fresh process; all latencies in ms."""

    model: str
    """Path of the file, as given."""
    shape: str
    """Shapes of its inputs, such as `x=1,3,32,32`."""
    latency_ms: float
    """The robust estimate to which latency tables are calibrated."""
    clock: str
    """Clock of `latency_ms`: `cpu` time, which excludes other processes, or `wall` time. The other latencies
    are always in wall time."""
    min_ms: float
    median_ms: float
    p90_ms: float
    runs: int
    throttled: int
    """Number of periods in which a CPU quota stopped the process."""
    energy_mj: float | None
    """Energy of one run above idle in mJ; None if it was not measured or the device has no counter."""
    energy_counter: str | None
    """RAPL, NVML or INA."""
    threads: int
    provider: str
    measured_on: str | None
    """The measured device; None: this machine."""
    slow: bool
    """Whether the measurement was disturbed, so that the latency may be wrong; `warnings` has the reason."""
    warnings: tuple[str, ...]
    predicted_latency_ms: float | None
    """The prediction in the file; None if it has none."""
    device: str | None
    """The device of the prediction; None if the file names none."""


class BenchmarkError(ValueError):
    """Some models could not be measured.

    Args:
        reasons: a sentence for each model that could not be measured.
        rows: the measurements of the other models.
    """

    def __init__(self, reasons: Sequence[str], rows: Sequence[BenchmarkRow]) -> None:
        super().__init__("; ".join(dict.fromkeys(reasons)))
        self.rows = list(rows)


def benchmark(
    models: Sequence[Path],
    *,
    settings: RunSettings = DEFAULT_SETTINGS,
    shapes: Mapping[str, Shape] | None = None,
    energy: bool = False,
    progress: Progress = silent,
) -> list[BenchmarkRow]:
    """Measure each model on this machine, in a separate process.

    Args:
        models: ONNX files.
        settings: how the models are run.
        shapes: shapes of inputs with open dimensions other than the batch, by name.
        energy: measure energy too, if this machine has a counter.
        progress: called after each model.

    Raises:
        BenchmarkError: a file is missing, is not an ONNX model or cannot be run; it contains the rows of the
                others.
        ValueError: a shape names an input that no model has.
    """
    return _benchmark(models, settings, shapes or {}, energy, None, Local(), progress)


def benchmark_on(
    profile: DeviceProfile,
    models: Sequence[Path],
    *,
    connection: Connection | None = None,
    shapes: Mapping[str, Shape] | None = None,
    energy: bool = False,
    progress: Progress = silent,
) -> list[BenchmarkRow]:
    """Measure each model on a device with the settings of its profile, and check the outputs of the device.

    Args:
        profile: the profile of the device.
        models: ONNX files.
        connection: replaces the connection in the profile.
        shapes: shapes of inputs with open dimensions other than the batch, by name.
        energy: measure energy too, if the device has a counter.
        progress: called after each model.

    Raises:
        BenchmarkError: a file is missing, is not an ONNX model or cannot be run; it contains the rows of the
                others.
        ValueError: a shape names an input that no model has, or the device cannot be reached, is not the
            device of the profile, or computes wrong outputs.
    """
    connection = connection or profile.connection
    return _benchmark(models, profile.key, shapes or {}, energy, profile, connection, progress)


def _benchmark(
    models: Sequence[Path],
    settings: RunSettings,
    shapes: Mapping[str, Shape],
    energy: bool,
    profile: DeviceProfile | None,
    connection: Connection,
    progress: Progress,
) -> list[BenchmarkRow]:
    files, reasons = _read(models, settings.batch, shapes, fixed_only=not connection.supports_block_timing)
    if not files:
        raise BenchmarkError(reasons, [])
    unused = set(shapes) - {name for file in files.values() for name in file.shapes}
    if unused:
        inputs = sorted({name for file in files.values() for name in file.shapes})
        raise ValueError(f"--shape must name an input of the models, one of {inputs}, got {sorted(unused)}")
    compare = profile is not None or settings.provider != CPU
    content = BundleContent(
        models=[_bundled(name, file, compare) for name, file in files.items()],
        settings=settings,
        images={_name(f.image): noise_images(*f.image) for f in files.values() if f.image and compare},
        energy=energy,
        keep_going=True,
        best_speed_probe_ms=profile.best_speed_probe_ms if profile else None,
    )
    with TemporaryDirectory() as folder:
        bundle = Path(folder) / "bundle"
        write_bundle(bundle, content)
        results = session.measure(connection, bundle, lambda done, total: progress("benchmark", done, total))
    if profile:
        profile.check_same_device(results.device)
    rows = [
        _row(name, file, results, settings, profile)
        for name, file in files.items()
        if name not in results.failed
    ]
    reasons += [_reason(files[name].path, reason) for name, reason in results.failed.items()]
    if reasons:
        raise BenchmarkError(reasons, rows)
    return rows


def _read(
    paths: Sequence[Path], batch: int, shapes: Mapping[str, Shape], fixed_only: bool
) -> tuple[dict[str, ModelFile], list[str]]:
    """The models by their names in the bundle, and a reason for each model that cannot be measured."""
    files: dict[str, ModelFile] = {}
    reasons = []
    for i, path in enumerate(paths):
        try:
            file = read_model(path, batch, shapes)
            if file.is_open and fixed_only:
                raise ValueError(
                    f"{path} must have inputs of fixed shapes, because the tool of the device takes no shapes"
                )
        except ValueError as error:
            reasons.append(_reason(path, str(error)))
        else:
            files[f"model{i}"] = file
    return files, reasons


def _reason(path: Path, reason: str) -> str:
    return reason if str(path) in reason else f"{path}: {reason}"


def _bundled(name: str, file: ModelFile, compare: bool) -> BundledModel:
    n, sessions = alone_plan(len(file.content))
    return BundledModel(
        name,
        file.content,
        n,
        alone=True,
        images=_name(file.image) if file.image and compare else None,
        sessions=sessions,
        shapes=file.shapes,
        label=str(file.path),
        layers=file.layers,
    )


def _row(
    name: str, file: ModelFile, results: Results, settings: RunSettings, profile: DeviceProfile | None
) -> BenchmarkRow:
    figures = results.alone_latency(name)
    assert figures, "a model that did not fail has figures"
    disturbed = _disturbances(figures, name in results.always_slow)
    return BenchmarkRow(
        model=str(file.path),
        shape=file.shape,
        **figures.model_dump(),
        threads=settings.threads,
        provider=settings.provider,
        measured_on=profile.name if profile else None,
        slow=bool(disturbed),
        warnings=(*disturbed, *_other_batch(file, profile)),
        predicted_latency_ms=_predicted_ms(file.metadata),
        device=file.metadata.get(DEVICE),
    )


def _predicted_ms(metadata: Mapping[str, str]) -> float | None:
    """The prediction that `nas export` wrote; None if there is none, or if another tool used the same key."""
    try:
        predicted = float(metadata.get(PREDICTED, "nan"))
    except ValueError:
        return None
    return predicted if math.isfinite(predicted) else None


def _disturbances(figures: AloneFigures, always_slow: bool) -> list[str]:
    warnings = timing_warnings(figures)
    if always_slow and not figures.throttled:
        warnings.append("the processor was slow during all runs: the latency may be too high")
    return warnings


def _other_batch(file: ModelFile, profile: DeviceProfile | None) -> list[str]:
    if profile is None or file.batch in (None, profile.key.batch):
        return []
    return [
        f"the model reads batches of {file.batch}, the profile of {profile.name!r} is for batches of "
        f"{profile.key.batch}"
    ]


def _name(image: tuple[int, int]) -> str:
    return "x".join(map(str, image))
