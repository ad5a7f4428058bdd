"""The method of calibration whose ranges suit a subnet best."""

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
        ValueError: it is not.
    """
    if calibration not in CALIBRATIONS:
        raise ValueError(f"calibration must be one of {list(CALIBRATIONS)}, got {calibration!r}")


def with_best_ranges(
    trained: TrainedRun, target: Target, metrics_with: Callable[[Target], dict[str, float]]
) -> Target:
    """The target with the method whose INT8 network has the best primary metric on the validation split.

    Args:
        trained: the run.
        target: its method is ignored.
        metrics_with: metrics of a subnet on the validation split, as deployed on a target.

    Returns:
        the target with the first of the best methods.
    """
    metric = trained.task.primary.metric
    sign = 1 if trained.task.metrics[metric].direction == "min" else -1

    def loss(method: Method) -> float:
        return sign * metrics_with(replace(target, ranges=method))[metric]

    return replace(target, ranges=min(METHODS, key=loss))
