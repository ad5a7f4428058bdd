"""Measured latency of ONNX files, beside the predicted one where a file holds it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import onnxruntime

from hw_profiles import runner, session
from hw_profiles.bundle import BundleContent, BundledModel, visits_alone, write_bundle
from hw_profiles.connections.base import Connection
from hw_profiles.connections.here import Here
from hw_profiles.key import RunSettings
from hw_profiles.profile import DeviceProfile
from nas.devices.check_images import noise_images
from nas.progress import Progress, silent

PREDICTED, DEVICE = "predicted_latency_ms", "device"
"""Keys of the ONNX metadata that `nas export` writes."""
DEFAULT_SETTINGS = RunSettings()


@dataclass(frozen=True)
class BenchmarkRow:
    """One model alone in a fresh process; all latencies in ms."""

    model: str
    """Path as it was given."""
    latency_ms: float
    """The robust figure that latency tables are calibrated to."""
    min_ms: float
    median_ms: float
    p90_ms: float
    runs: int
    energy_mj: float | None
    """Of one run above that of waiting; None: not asked for, or no counter there."""
    energy_counter: str | None
    """RAPL, NVML or INA."""
    threads: int
    provider: str
    measured_on: str | None
    """The device that was measured; None: this machine."""
    slow: bool
    """All its runs saw slow moments of the processor: the latency may be too high."""
    predicted_latency_ms: float | None
    """None: the model does not say."""
    device: str | None
    """The device that the prediction is for."""


def benchmark(
    models: Sequence[Path],
    *,
    settings: RunSettings = DEFAULT_SETTINGS,
    energy: bool = False,
    progress: Progress = silent,
) -> list[BenchmarkRow]:
    """Measure each model on this machine, in a process of its own.

    Args:
        models: ONNX files.
        settings: how they are run.
        energy: measure that too, where this machine has a counter.
        progress: told after each model.

    Raises:
        ValueError: a file is missing or no ONNX model, or the provider is not available here.
    """
    return _benchmark(_content(models, settings, energy), models, Here(), None, progress)


def benchmark_on(
    profile: DeviceProfile,
    models: Sequence[Path],
    *,
    connection: Connection | None = None,
    energy: bool = False,
    progress: Progress = silent,
) -> list[BenchmarkRow]:
    """Measure each model on a device as its profile says, and check there what it computes.

    Args:
        profile: of the device.
        models: ONNX files.
        connection: reaches the device instead of the profile's.
        energy: measure that too, where the device has a counter.
        progress: told after each model.

    Raises:
        ValueError: a file is missing or no ONNX model, the device cannot be reached, is another one than
            that of the profile, or computes wrongly.
    """
    content = replace(_content(models, profile.key, energy), least_gauge_ms=profile.least_gauge_ms)
    return _benchmark(content, models, connection or profile.connection, profile, progress)


def _benchmark(
    content: BundleContent,
    models: Sequence[Path],
    connection: Connection,
    profile: DeviceProfile | None,
    progress: Progress,
) -> list[BenchmarkRow]:
    with TemporaryDirectory() as folder:
        bundle = Path(folder) / "bundle"
        write_bundle(bundle, content)
        results = session.measure(connection, bundle, lambda done, total: progress("benchmark", done, total))
    if profile:
        profile.refuse_other(results.device)
    rows = []
    for i, path in enumerate(models):
        metadata = _metadata(path)
        predicted = metadata.get(PREDICTED)
        told = results.told(_id(i))
        assert told, "a model is never left out"
        rows.append(
            BenchmarkRow(
                model=str(path),
                **told.model_dump(),
                threads=content.settings.threads,
                provider=content.settings.provider,
                measured_on=profile.name if profile else None,
                slow=_id(i) in results.never_steady,
                predicted_latency_ms=float(predicted) if predicted else None,
                device=metadata.get(DEVICE),
            )
        )
    return rows


def _id(i: int) -> str:
    return f"model{i}"


def _open(path: Path) -> onnxruntime.InferenceSession:
    """The model on this machine's CPU.

    Raises:
        ValueError: the file is missing or no ONNX model.
    """
    try:
        return runner.Model(str(path), RunSettings(fallback=True).model_dump()).open()
    except runner.RunnerError as error:
        raise ValueError(str(error)) from None


def _metadata(path: Path) -> dict[str, str]:
    found: dict[str, str] = _open(path).get_modelmeta().custom_metadata_map
    return found


def _content(models: Sequence[Path], settings: RunSettings, energy: bool) -> BundleContent:
    """All files, with images of their size."""
    shapes = [_image_shape(path) for path in models]
    images = {_name(shape): noise_images(*shape) for shape in shapes if shape}
    contents = [path.read_bytes() for path in models]
    visits = [visits_alone(len(content)) for content in contents]
    files = [
        BundledModel(_id(i), content, n, alone=True, images=shape and _name(shape), sessions=sessions)
        for i, (content, shape, (n, sessions)) in enumerate(zip(contents, shapes, visits, strict=True))
    ]
    return BundleContent(models=files, settings=settings, images=images, energy=energy)


def _image_shape(path: Path) -> tuple[int, int] | None:
    """Channels and size of the images that a model reads; None: it reads something else."""
    shape = _open(path).get_inputs()[0].shape
    square = len(shape) == 4 and all(isinstance(n, int) for n in shape[1:]) and shape[2] == shape[3]
    return (shape[1], shape[2]) if square else None


def _name(shape: tuple[int, int]) -> str:
    return "x".join(map(str, shape))
