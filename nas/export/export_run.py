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
from nas.export.best_ranges import AUTO, check_calibration
from nas.export.export import Exported, check_format, export
from nas.export.precision_cost import Measure
from nas.onnx_backend.calibrate import METHODS
from nas.onnx_backend.precision import FP32, MIXED
from nas.progress import Progress, silent
from nas.runs.commands import command
from nas.runs.files import FRONT, SEARCH
from nas.runs.lock import writes_run
from nas.runs.run_dir import RunDir
from nas.search.select import minimised_columns, select
from search_spaces import Arch
from search_spaces.precision_space import PrecisionSpace, space_of


@writes_run
def export_subnets(
    trained: TrainedRun,
    subnets: str | Sequence[Arch] = "knee",
    *,
    device: str | None = None,
    file_format: str = "onnx",
    dynamic_batch: bool = False,
    precision: str | None = None,
    calibration: str = AUTO,
    out: Path | None = None,
    progress: Progress = silent,
) -> list[Exported]:
    """Export subnets of a run.

    Args:
        trained: the run.
        subnets: any subnets of the space, or how to select them from the front, see
            `nas.search.select.select`.
        device: the device whose front is used and that the files are for; None: the device that was searched
            last.
        file_format: as in `nas.export.export.export`.
        dynamic_batch: leave the batch open instead of using the batch of the device.
        precision: one of `nas.onnx_backend.precision.PRECISIONS`; None: mixed for subnets that choose the
            precision of their parts, otherwise the precision of the device, or fp32 before the first search.
        calibration: how the ranges of INT8 activations are found, one of
            `nas.export.best_ranges.CALIBRATIONS`; `auto` is the best method on the validation split.
        out: the folder to write to; None: one in the run.
        progress: called after every file.

    Raises:
        ValueError: the run was not searched for the device, the run has not trained a subnet, the format does
            not have this precision, or as `select` and `export`.
    """
    archs = _from_front(trained.run, subnets, device) if isinstance(subnets, str) else subnets
    trained.check_trained(archs)
    profiled = trained.device(device)
    name = profiled.profile.name if profiled else None
    trained.run.exports(name, out).check_writable("give another folder with --out")
    target = Target.of(profiled)
    if dynamic_batch:
        target = replace(target, batch=None)
    check_calibration(calibration)
    if calibration in METHODS:
        target = replace(target, ranges=calibration)
    targets = [_target(trained, arch, target, precision) for arch in archs]
    for target in targets:
        check_format(file_format, target.precision)
    exported = []
    for i, (arch, target) in enumerate(zip(archs, targets, strict=True)):
        exported.append(
            export(
                trained,
                arch,
                target,
                file_format=file_format,
                device=name,
                out=out,
                extra=_latencies(trained, profiled, arch, target),
                measure=_measure(profiled, target) if target.precision != FP32 else None,
                best_ranges=calibration == AUTO,
            )
        )
        progress("export", i + 1, len(archs))
    return exported


def _from_front(run: RunDir, how: str, device: str | None) -> list[Arch]:
    """Subnets of a front of the run."""
    if device is None and run.last_device is None:
        raise ValueError(
            f"the run {run.path} has no front yet; search with "
            f"`{command('search', run.path, '--device', 'NAME')}`, or export without a search with "
            f"`{command('export', run.path, '--arch', 'largest')}`"
        )
    results = run.search(device)
    front, search = results.read_csv(FRONT), results.read_json(SEARCH)
    rows = select(front, minimised_columns(front, search["objectives"], search["maximised"]), how)
    archs: list[Arch] = rows["arch"].tolist()
    return archs


def _target(trained: TrainedRun, arch: Arch, target: Target, precision: str | None) -> Target:
    """The target for one subnet."""
    chooses = isinstance(space_of(trained.space, arch), PrecisionSpace)
    return replace(target, precision=precision or (MIXED if chooses else target.precision))


def _latencies(trained: TrainedRun, device: Device | None, arch: Arch, target: Target) -> dict[str, Any]:
    """Entries of the card: device, predicted latency and, for subnets of the front, measured latency."""
    if device is None or target.precision != device.profile.key.precision:
        return {}
    name, space = device.profile.name, space_of(trained.space, arch)
    front = trained.run.search(name).read_csv(FRONT).set_index("arch_id")
    measured = front["measured_latency_ms"].dropna()
    (predicted,) = device.latency(space)(space.encode([arch])).tolist()
    entries = {DEVICE: name, PREDICTED: predicted}
    if arch.id in measured.index:
        entries["measured_latency_ms"] = float(measured[arch.id])
    return entries


def _measure(device: Device | None, target: Target) -> Measure | None:
    """A function that measures files on the target; None if that is another machine without a profile."""
    if device is None:
        return _measure_here if target.instruction_set == instruction_set() else None
    # a profile in fp32 serves files of all precisions
    key = device.profile.key.model_copy(update={"precision": FP32, "int8_for": None})
    profile = device.profile.model_copy(update={"key": key})
    reached = trusted_connection(device)
    return lambda paths: [row.latency_ms for row in benchmark_on(profile, paths, connection=reached)]


def _measure_here(paths: Sequence[Path]) -> list[float]:
    return [row.latency_ms for row in benchmark(paths)]


def exported_table(exported: Sequence[Exported], metric: str) -> pd.DataFrame:
    """A table with one row per file; `max_difference` is as in `Exported`.

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
