"""The cost of a search, estimated from the time of a few subnets on few images before it starts."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from hw_profiles.measuring.runner.process_limits import usable_cores
from nas.data.batches import MIN_CALIBRATION_IMAGES
from nas.evaluation.archive import Archive
from nas.evaluation.calibration import DEFAULT, METHODS, Calibration
from nas.evaluation.trained_run import TrainedRun
from nas.evaluation.workers import Threads, Workers
from nas.search.algorithms.base import size_stratified_sample
from nas.search.options import SearchOptions
from nas.search.problem.problem import Problem
from nas.search.two_stage import n_full
from search_spaces import Arch, Genomes, Space
from search_spaces.costs import macs_table

SUBNETS = 16
"""Subnets that are timed together. They decode each image once, as the larger groups of a search do."""
FIRST_IMAGES = 16
"""Images of the first timing; each further one has `GROWTH` times as many."""
GROWTH = 4
MIN_CPU_SECONDS, MAX_SECONDS = 1.0, 30.0
"""The last timing is the first one with so much more CPU time than the one before, with so much time, or with
all images. CPU time counts because the time of a short run says little while other programs run."""
SMALLER = 4
"""The cost is reported for this fraction of the validation images too."""


@dataclass(frozen=True)
class SubnetTime:
    """Time to evaluate a subnet among many, on all cores that the workers use."""

    fixed_seconds: float
    seconds_per_image: float
    cpu_seconds_per_second: float = 1.0

    def seconds(self, n_images: int) -> float:
        """Seconds per subnet for this number of validation and calibration images."""
        return self.fixed_seconds + n_images * self.seconds_per_image


@dataclass(frozen=True)
class Step:
    """The evaluations of one step of a search."""

    step: str
    evaluations: int
    validation_images: int
    seconds: float


@dataclass(frozen=True)
class SearchCost:
    """What a search will cost."""

    steps: Sequence[Step]
    calibration_images: int
    seconds_per_subnet: float
    """Of the first step."""
    smaller: Sequence[Step]
    """The steps with a fraction of the validation images."""
    cpu_seconds: float
    """CPU seconds for all evaluations."""

    @property
    def seconds(self) -> float:
        """Seconds for all evaluations."""
        return sum(step.seconds for step in self.steps)

    def record(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "steps": [asdict(step) for step in self.steps],
            "calibration_images": self.calibration_images,
            "seconds_per_subnet": self.seconds_per_subnet,
            "seconds": self.seconds,
            "cpu_seconds": self.cpu_seconds,
            "smaller": {
                "validation_images": self.smaller[0].validation_images,
                "seconds": sum(step.seconds for step in self.smaller),
            },
        }

    @property
    def _calibration(self) -> str:
        return f"and {self.calibration_images:,} calibration " if self.calibration_images else ""

    def lines(self) -> Iterator[str]:
        """The cost in words."""
        for step in self.steps:
            yield (
                f"{step.step}: {step.evaluations:,} evaluations of {step.validation_images:,} validation "
                f"{self._calibration}images, about {step.seconds / max(1, step.evaluations):.2g} s each: "
                f"{_duration(step.seconds)}"
            )
        first, smaller = self.steps[0], self.smaller[0]
        total = f"estimated time of all evaluations: {_duration(self.seconds)}"
        if smaller.validation_images < first.validation_images:
            option = "--screen-images" if len({s.validation_images for s in self.steps}) > 1 else ""
            seconds = _duration(sum(step.seconds for step in self.smaller))
            total += f"; with {option or '--validation-images'} {smaller.validation_images:,}: {seconds}"
        yield total


def estimate_cost(
    trained: TrainedRun, problem: Problem, options: SearchOptions, workers: Workers | None = None
) -> SearchCost:
    """Time a few subnets, and estimate the cost of a search.

    Evaluations that are in the archive are counted, although they will take no time.

    Args:
        trained: the run, with the validation images of the search.
        problem: objectives and limits of the search.
        options: of the search.
        workers: where subnets will be evaluated; None: one thread per core.
    """
    n_all = len(trained.dataset.split("validation"))
    calibration = _calibration_images(trained)
    first = options.screen_images or n_all
    archs = typical_subnets(problem, options.seed)
    subnet = time_subnets(trained, problem.metrics, archs, first, calibration, workers)

    def steps(n_first: int, n_last: int) -> list[Step]:
        return _steps(trained.space, options, subnet, n_first, n_last, calibration)

    n_smaller, whole = max(1, first // SMALLER), steps(first, n_all)
    return SearchCost(
        steps=whole,
        calibration_images=calibration,
        seconds_per_subnet=subnet.seconds(first + calibration),
        smaller=steps(n_smaller, n_all if options.screen_images else n_smaller),
        cpu_seconds=subnet.cpu_seconds_per_second * sum(step.seconds for step in whole),
    )


def _steps(
    space: Space, options: SearchOptions, subnet: SubnetTime, n_first: int, n_last: int, calibration: int
) -> list[Step]:
    """All steps; the search evaluates on `n_first` images, a second stage on `n_last`."""
    seconds = subnet.seconds(n_first + calibration)
    evaluations = min(options.evaluations, space.n_subnets)
    if options.minutes is not None:
        limit = options.search_deadline(0.0)
        assert limit is not None
        evaluations = min(evaluations, max(1, int(limit / seconds)))

    def step(name: str, n: int, images: int) -> Step:
        return Step(name, n, images, n * subnet.seconds(images + calibration))

    def whole(name: str) -> list[Step]:
        found = [step(name, evaluations, n_first)]
        if options.screen_images:
            found.append(step(f"{name}, front on all images", n_full(evaluations), n_last))
        return found

    again = min(options.noise_ceiling, evaluations)
    return [
        *whole("search"),
        *([step("noise ceiling", again, n_first)] if again else []),
        *(whole("random baseline") if options.baseline else []),
    ]


def typical_subnets(problem: Problem, seed: int) -> list[Arch]:
    """A few subnets whose mean MACs are those that are expected of a search.

    A search begins with subnets of all sizes. Later ones are expected to be like random subnets that satisfy
    the limits on costs.
    """
    rng, space = np.random.default_rng(seed), problem.space
    random = _within_limits(problem, space.sample(rng, 60 * SUBNETS))
    start = space.canonical(size_stratified_sample(space, rng, len(random) // 2))
    expected = np.concatenate([start, random])
    macs = macs_table(space)(expected).astype(np.float64)
    draws = rng.integers(0, len(expected), size=(200, SUBNETS))
    nearest = np.abs(macs[draws].mean(axis=1) - macs.mean()).argmin()
    return list(dict.fromkeys(space.decode(expected[draws[nearest]])))


def _within_limits(problem: Problem, genomes: Genomes) -> Genomes:
    """Those that satisfy the limits on costs, but at least `SUBNETS`, those with the smallest excess."""
    limits = [limit for limit in problem.constraints if not limit.objective.metrics]
    if not limits:
        return genomes
    excess = Problem(problem.space, [limit.objective for limit in limits], limits).excess(genomes, {})
    order = np.argsort(excess, kind="stable")
    return genomes[order[: max(SUBNETS, int((excess == 0).sum()))]]


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
        metrics: further metrics.
        archs: the subnets.
        n_validation: validation images of the search.
        n_calibration: calibration images of the search.
        workers: where the search evaluates. The time is measured with the threads of this process, and
            multiplied by their number over that of the workers.
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
            # of the same images shows it.
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
    """Seconds and CPU seconds of an evaluation of subnets on some images, which is not stored."""
    part = trained.with_validation_images(validation)
    with TemporaryDirectory() as folder:
        run = replace(part, archive=Archive(Path(folder) / "archive.sqlite"))
        images = max(MIN_CALIBRATION_IMAGES, calibration)  # unused without batch norms
        evaluate = run.evaluator(calibration=Calibration(images), extra_metrics=metrics)
        begin, cpu_begin = time.perf_counter(), time.process_time()
        evaluate(archs, "timing")
        return time.perf_counter() - begin, time.process_time() - cpu_begin


def _relative_speed(workers: Workers | None) -> float:
    """Cores that the workers use, relative to those of this process."""
    return 1.0 if workers is None or isinstance(workers, Threads) else workers.parallel / usable_cores()


def _calibration_images(trained: TrainedRun) -> int:
    if not trained.space.has_batch_norm:
        return 0
    return min(METHODS[DEFAULT].images, len(trained.dataset.split("train")))


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.1f} minutes"
