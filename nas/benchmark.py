"""Measured latency of ONNX files, beside the predicted one where a file holds it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx

from hw_profiles import local
from nas.progress import Progress, silent

PREDICTED, DEVICE = "predicted_latency_ms", "device"
"""Keys of the ONNX metadata that `nas export` writes."""


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
    threads: int
    provider: str
    predicted_latency_ms: float | None
    """None: the model does not say."""
    device: str | None
    """The device that the prediction is for."""


def benchmark(
    models: Sequence[Path],
    *,
    threads: int = 1,
    provider: str = "CPUExecutionProvider",
    progress: Progress = silent,
) -> list[BenchmarkRow]:
    """Measure each model in a process of its own.

    Args:
        models: ONNX files.
        threads: threads of one operator.
        provider: ONNX Runtime's execution provider.
        progress: told after each model.

    Raises:
        ValueError: a file is missing or no ONNX model, or the provider is not available here.
    """
    rows = []
    for i, path in enumerate(models):
        measured = local.benchmark(path, threads, provider)
        metadata = _metadata(path)
        predicted = metadata.get(PREDICTED)
        rows.append(
            BenchmarkRow(
                model=str(path),
                latency_ms=measured.latency_ms,
                min_ms=measured.min_ms,
                median_ms=measured.median_ms,
                p90_ms=measured.p90_ms,
                runs=measured.runs,
                threads=threads,
                provider=provider,
                predicted_latency_ms=float(predicted) if predicted else None,
                device=metadata.get(DEVICE),
            )
        )
        progress("benchmark", i + 1, len(models))
    return rows


def _metadata(path: Path) -> dict[str, str]:
    model = onnx.load(path, load_external_data=False)
    return {entry.key: entry.value for entry in model.metadata_props}
