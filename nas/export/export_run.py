"""Export of several subnets of a run, with their predicted and measured latencies in the card."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from hw_profiles.device import Device
from hw_profiles.measuring.runner.device_description import instruction_set
from hw_profiles.store import trusted_connection
from nas.devices.benchmark import DEVICE, PREDICTED, benchmark, benchmark_on
from nas.evaluation.deployed import Target
from nas.evaluation.trained_run import TrainedRun
from nas.export.export import Exported, check_format, export
from nas.export.precision_cost import Measure
from nas.onnx_backend.precision import FP32
from nas.progress import Progress, silent
from nas.runs.commands import command
from nas.runs.files import FRONT, SEARCH
from nas.runs.lock import writes_run
from nas.search.select import minimised_columns, select
from search_spaces import Arch


def export_picked(
    trained: TrainedRun,
    how: str = "knee",
    *,
    device: str | None = None,
    file_format: str = "onnx",
    dynamic_batch: bool = False,
    precision: str | None = None,
    out: Path | None = None,
    progress: Progress = silent,
) -> list[Exported]:
    """Export subnets of a front of the run.

    Args:
        trained: the run.
        how: as in `nas.search.select.select`.
        device: whose front, and what the files are for; None: the device that was searched last.
        file_format: as in `nas.export.export.export`.
        dynamic_batch: leave the batch open instead of the device's.
        precision: one of `nas.onnx_backend.precision.PRECISIONS`; None: the device's, fp32 before the first
            search.
        out: the folder to write to; None: one in the run.
        progress: called after every file.

    Raises:
        ValueError: the run was not searched for the device, or as `pick` and `export`.
    """
    run = trained.run
    if device is None and run.last_device is None:
        raise ValueError(
            f"the run {run.path} has no front to pick from yet; "
            f"`{command('search', run.path, '--device', 'NAME')}` makes one, and "
            f"`{command('export', run.path, '--arch', 'largest')}` works without a search"
        )
    results = run.search(device)
    front, search = results.read_csv(FRONT), results.read_json(SEARCH)
    rows = select(front, minimised_columns(front, search["objectives"], search["maximised"]), how)
    return export_archs(
        trained,
        rows["arch"].tolist(),
        device=device,
        file_format=file_format,
        dynamic_batch=dynamic_batch,
        precision=precision,
        out=out,
        progress=progress,
    )


@writes_run
def export_archs(
    trained: TrainedRun,
    archs: Sequence[Arch],
    *,
    device: str | None = None,
    file_format: str = "onnx",
    dynamic_batch: bool = False,
    precision: str | None = None,
    out: Path | None = None,
    progress: Progress = silent,
) -> list[Exported]:
    """Export any subnets of the space, found by a search or not; arguments as `export_picked`.

    Raises:
        ValueError: as `export`, or a format without this precision.
    """
    profiled = trained.device(device)
    name = profiled.profile.name if profiled else None
    trained.run.exports(name, out).check_writable("give another folder with --out")
    target = Target.of(profiled)
    if dynamic_batch:
        target = replace(target, batch=None)
    if precision:
        target = replace(target, precision=precision)
    check_format(file_format, target.precision)
    measure = _measure(profiled, target) if target.precision != FP32 else None
    exported = []
    for i, arch in enumerate(archs):
        extra = _latency(trained, profiled, arch, target)
        exported.append(
            export(
                trained,
                arch,
                target,
                file_format=file_format,
                device=name,
                out=out,
                extra=extra,
                measure=measure,
            )
        )
        progress("export", i + 1, len(archs))
    return exported


def _latency(trained: TrainedRun, device: Device | None, arch: Arch, target: Target) -> dict[str, Any]:
    """For the card of an arch: the device, the latency by its table and, on the front, as measured."""
    if device is None or target.precision != device.profile.key.precision:
        return {}
    predicted = device.latency(trained.space)(trained.space.encode([arch]))[0]
    known = {DEVICE: device.profile.name, PREDICTED: float(predicted)}
    front = trained.run.search(device.profile.name).read_csv(FRONT).set_index("arch_id")
    measured = front["measured_latency_ms"].dropna()
    return known | ({"measured_latency_ms": float(measured[arch.id])} if arch.id in measured.index else {})


def _measure(device: Device | None, target: Target) -> Measure | None:
    """Measures files on the target; None where it is another machine without a profile."""
    if device is None:
        return _measure_here if target.instruction_set == instruction_set() else None
    key = device.profile.key.model_copy(
        update={"precision": FP32, "int8_for": None}
    )  # files of all precisions
    profile = device.profile.model_copy(update={"key": key})
    reached = trusted_connection(device)
    return lambda paths: [row.latency_ms for row in benchmark_on(profile, paths, connection=reached)]


def _measure_here(paths: Sequence[Path]) -> list[float]:
    return [row.latency_ms for row in benchmark(paths)]


def exported_table(exported: Sequence[Exported], metric: str) -> pd.DataFrame:
    """One row per file; `max_difference` is the largest one to torch's outputs.

    Args:
        exported: the files.
        metric: name of the metric on the validation split that is shown.
    """
    return pd.DataFrame(
        [
            {
                "arch_id": e.arch.id,
                "precision": e.precision,
                "file": str(e.path),
                metric: e.metrics[metric],
                f"fp32_{metric}": e.fp32_metrics[metric],
                "max_difference": e.max_difference,
            }
            for e in exported
        ]
    )
