"""Selects the calibration method for INT8 ranges that gives the best metric for a subnet."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from nas.evaluation.deployed import Target
from nas.evaluation.trained_run import TrainedRun
from nas.onnx_backend.calibrate import METHODS, Method

AUTO = "auto"
CALIBRATIONS = (AUTO, *METHODS)


def check_calibration(calibration: str) -> None:
    """Check that `calibration` is one of `CALIBRATIONS`.

    Raises:
        ValueError: it is none of them.
    """
    if calibration not in CALIBRATIONS:
        raise ValueError(f"calibration must be one of {list(CALIBRATIONS)}, got {calibration!r}")


def with_best_ranges(
    trained: TrainedRun, target: Target, metrics_with: Callable[[Target], dict[str, float]]
) -> Target:
    """Select the method whose INT8 network has the best primary metric on the validation split.

    Args:
        trained: the run.
        target: the target; its calibration method is ignored.
        metrics_with: returns the metrics of the subnet on the validation split, as deployed on a target.

    Returns:
        the target with the best method; the first one if several are equal.
    """
    metric = trained.task.primary.metric
    sign = 1 if trained.task.metrics[metric].direction == "min" else -1

    def loss(method: Method) -> float:
        return sign * metrics_with(replace(target, ranges=method))[metric]

    return replace(target, ranges=min(METHODS, key=loss))
