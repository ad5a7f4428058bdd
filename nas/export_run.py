"""Export as a step of a run: subnets of its front, or any others, with what is known about their latency."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

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
    front, search = trained.run.read_csv(FRONT), trained.run.read_json(SEARCH)
    minimised = minimised_columns(front, search["objectives"], search["maximised"])
    rows = pick(front, minimised, how)
    exported = []
    for i, row in enumerate(rows.to_dict("records")):
        extra = {
            "device": search["device"],
            "predicted_latency_ms": row["latency_ms"],
            "measured_latency_ms": row["measured_latency_ms"],
        }
        batch = None if dynamic_batch else search["batch"]
        arch = Arch.from_json(row["arch"])
        exported.append(export(trained, arch, format=format, batch=batch, extra=extra))
        progress("export", i + 1, len(rows))
    return exported


def export_archs(
    trained: TrainedRun,
    archs: Sequence[Arch],
    *,
    format: str = "onnx",
    dynamic_batch: bool = False,
) -> list[Exported]:
    """Export any subnets of the space, whether a search found them or not.

    Raises:
        ValueError: as `export`.
    """
    return [export(trained, a, format=format, batch=None if dynamic_batch else 1) for a in archs]


def exported_table(exported: Sequence[Exported]) -> pd.DataFrame:
    """One row per file: `arch_id`, `file`, `max_difference` to torch's logits."""
    return pd.DataFrame(
        [{"arch_id": e.arch.id, "file": str(e.path), "max_difference": e.max_difference} for e in exported]
    )
