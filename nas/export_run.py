"""Export as a step of a run: subnets of its front, or any others, with what is known about their latency."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from hw_profiles.store import Device
from nas.benchmark import DEVICE, PREDICTED
from nas.export import Exported, export
from nas.pick import minimised_columns, pick
from nas.progress import Progress, silent
from nas.run_dir import FRONT, SEARCH
from nas.trained_run import TrainedRun
from search_spaces import Arch


def export_picked(
    trained: TrainedRun,
    how: str = "knee",
    *,
    format: str = "onnx",
    dynamic_batch: bool = False,
    progress: Progress = silent,
) -> list[Exported]:
    """Export subnets of the run's front.

    Args:
        trained: the run.
        how: as in `nas.pick.pick`.
        format: as in `nas.export.export`.
        dynamic_batch: leave the batch open instead of the device's.
        progress: hears about every file.

    Raises:
        ValueError: nothing was searched yet, or as `pick` and `export`.
    """
    if not trained.run.has(SEARCH):
        raise ValueError(
            f"the run {trained.run.path} has no front to pick from yet: `nas search` makes one, "
            f"and --arch exports any subnet without"
        )
    front, search = trained.run.read_csv(FRONT), trained.run.read_json(SEARCH)
    rows = pick(front, minimised_columns(front, search["objectives"], search["maximised"]), how)
    archs = [Arch.from_json(text) for text in rows["arch"]]
    return export_archs(trained, archs, format=format, dynamic_batch=dynamic_batch, progress=progress)


def export_archs(
    trained: TrainedRun,
    archs: Sequence[Arch],
    *,
    format: str = "onnx",
    dynamic_batch: bool = False,
    progress: Progress = silent,
) -> list[Exported]:
    """Export any subnets of the space, whether a search found them or not; arguments as `export_picked`.

    Raises:
        ValueError: as `export`.
    """
    device = trained.device()
    fixed_batch = device.profile.key.batch if device else 1
    exported = []
    for i, (arch, latency) in enumerate(zip(archs, _latencies(trained, device, archs), strict=True)):
        batch = None if dynamic_batch else fixed_batch
        exported.append(export(trained, arch, format=format, batch=batch, extra=latency))
        progress("export", i + 1, len(archs))
    return exported


def _latencies(trained: TrainedRun, device: Device | None, archs: Sequence[Arch]) -> list[dict[str, Any]]:
    """For the card of each arch: the device, the latency by its table and, on the front, as measured."""
    if device is None:
        return [{} for _ in archs]
    predicted = device.table.predict(trained.space.encode(archs), trained.space)
    front = trained.run.read_csv(FRONT)
    measured = dict(zip(front["arch_id"], front["measured_latency_ms"].astype(float), strict=True))
    return [
        {DEVICE: device.profile.name, PREDICTED: float(ms)}
        | ({"measured_latency_ms": measured[arch.id]} if arch.id in measured else {})
        for arch, ms in zip(archs, predicted, strict=True)
    ]


def exported_table(exported: Sequence[Exported]) -> pd.DataFrame:
    """One row per file: `arch_id`, `file`, `max_difference` to torch's logits."""
    return pd.DataFrame(
        [{"arch_id": e.arch.id, "file": str(e.path), "max_difference": e.max_difference} for e in exported]
    )
