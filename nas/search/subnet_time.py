"""The time to evaluate a subnet, extrapolated from few images."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from hw_profiles.measuring.runner.process_limits import usable_cores
from nas.data.batches import MIN_CALIBRATION_IMAGES
from nas.evaluation.archive import Archive
from nas.evaluation.calibration import Calibration
from nas.evaluation.trained_run import TrainedRun
from nas.evaluation.workers import Threads, Workers
from search_spaces import Arch

FIRST_IMAGES = 16
"""Images of the first timing; each further timing has `GROWTH` times as many."""
GROWTH = 4
MIN_CPU_SECONDS, MAX_SECONDS = 1.0, 30.0
"""Timing stops after the first timing that takes `MIN_CPU_SECONDS` more than the previous one, takes
`MAX_SECONDS`, or has all images. CPU time is compared because other programs disturb the wall time of short
runs."""


@dataclass(frozen=True)
class SubnetTime:
    """Time to evaluate one of many subnets, on all cores that the workers use."""

    fixed_seconds: float
    seconds_per_image: float
    cpu_seconds_per_second: float = 1.0

    def seconds(self, n_images: int) -> float:
        """Seconds per subnet for this number of validation and calibration images."""
        return self.fixed_seconds + n_images * self.seconds_per_image


def time_subnets(
    trained: TrainedRun,
    metrics: Sequence[str],
    archs: Sequence[Arch],
    n_validation: int,
    n_calibration: int,
    workers: Workers | None,
) -> SubnetTime:
    """Time the evaluation of subnets on a growing number of images.

    Args:
        trained: the run.
        metrics: names of further metrics to compute.
        archs: the subnets.
        n_validation: validation images of the search.
        n_calibration: calibration images of the search.
        workers: where the search evaluates. The time is measured with the threads of this process and scaled
            by the number of these threads divided by the number of cores that the workers use.
    """
    total, speed = n_validation + n_calibration, _relative_speed(workers)
    timings: list[tuple[int, float]] = []  # CPU seconds, which other programs hardly change
    n = min(FIRST_IMAGES, total)
    while True:
        validation = min(n_validation, max(1, round(n * n_validation / total)))
        calibration = min(n_calibration, max(MIN_CALIBRATION_IMAGES, n - validation))
        if not timings:  # the first evaluation in a process takes longer
            _timed(trained, metrics, archs, validation, calibration)
        seconds, cpu_seconds = _timed(trained, metrics, archs, validation, calibration)
        more = cpu_seconds - timings[-1][1] if timings else 0.0
        timings.append((validation + calibration, cpu_seconds))
        if n == total or seconds >= MAX_SECONDS:
            break
        if more >= MIN_CPU_SECONDS:
            # Extrapolation would multiply a disturbance, such as the compilation of a kernel. A second timing
            # of the same images reveals a disturbance.
            again, cpu_again = _timed(trained, metrics, archs, validation, calibration)
            if cpu_again < cpu_seconds:
                seconds, cpu_seconds = again, cpu_again
                timings[-1] = (validation + calibration, cpu_seconds)
            if cpu_seconds - timings[-2][1] >= MIN_CPU_SECONDS:
                break
        n = min(n * GROWTH, total)
    n_last, last = timings[-1]
    n_before, before = timings[-2] if len(timings) > 1 else (0, last)
    per_image = (last - before) / max(1, n_last - n_before)
    if not 0 < per_image * n_last <= last:
        per_image = last / n_last
    scale = seconds / last / (len(archs) * speed)
    return SubnetTime(scale * (last - per_image * n_last), scale * per_image, speed * last / seconds)


def _timed(
    trained: TrainedRun, metrics: Sequence[str], archs: Sequence[Arch], validation: int, calibration: int
) -> tuple[float, float]:
    """Seconds and CPU seconds of an evaluation of subnets on some images; its results are not stored."""
    part = trained.with_validation_images(validation)
    with TemporaryDirectory() as folder:
        run = replace(part, archive=Archive(Path(folder) / "archive.sqlite"))
        images = max(MIN_CALIBRATION_IMAGES, calibration)  # unused without batch norms
        evaluate = run.evaluator(calibration=Calibration(images), extra_metrics=metrics)
        begin, cpu_begin = time.perf_counter(), time.process_time()
        evaluate(archs, "timing")
        return time.perf_counter() - begin, time.process_time() - cpu_begin


def _relative_speed(workers: Workers | None) -> float:
    """Number of cores that the workers use, divided by the number of cores that this process uses."""
    return 1.0 if workers is None or isinstance(workers, Threads) else workers.parallel / usable_cores()
