"""The cost of a search, estimated before the search from the evaluation time of a few subnets."""

from __future__ import annotations

import math

from nas.evaluation.calibration import DEFAULT, METHODS
from nas.evaluation.deployed import Target
from nas.evaluation.trained_run import TrainedRun
from nas.evaluation.workers import Workers
from nas.search.cost import SearchCost, Step
from nas.search.deployed_time import time_deployed
from nas.search.options import SearchOptions
from nas.search.problem.problem import Problem
from nas.search.subnet_time import SubnetTime, time_subnets
from nas.search.two_stage import n_full
from nas.search.typical_subnets import typical_subnets
from search_spaces import Space
from search_spaces.precision_space import PrecisionSpace, float_arch

FRONT_SUBNETS = 50
"""Typical number of subnets of a front and of their versions in one precision, all evaluated as deployed."""
SMALLER = 4
"""The cost is also reported for the number of validation images divided by this."""


def estimate_cost(
    trained: TrainedRun,
    problem: Problem,
    options: SearchOptions,
    workers: Workers | None = None,
    target: Target | None = None,
) -> SearchCost:
    """Time a few subnets, and estimate the cost of a search.

    Evaluations that are in the archive are counted, although they will take no time.

    Args:
        trained: the run, with the validation images of the search.
        problem: objectives and limits of the search.
        options: the options of the search.
        workers: where subnets will be evaluated; None: one thread per core.
        target: the device as a target of exports, for evaluations as deployed; None: this machine.
    """
    n_all = len(trained.dataset.split("validation"))
    calibration = _calibration_images(trained)
    first = options.screen_images or n_all
    archs = [float_arch(trained.space, arch) for arch in typical_subnets(problem, options.seed)]
    subnet = time_subnets(trained, problem.metrics, archs, first, calibration, workers)
    mixed = isinstance(problem.space, PrecisionSpace)
    deployed = time_deployed(trained, problem.metrics, archs[0], target or Target()) if mixed else None

    def steps(n_first: int, n_last: int) -> list[Step]:
        return _steps(problem.space, options, subnet, deployed, n_first, n_last, calibration)

    n_smaller, whole = max(1, first // SMALLER), steps(first, n_all)
    return SearchCost(
        steps=whole,
        calibration_images=calibration,
        seconds_per_subnet=subnet.seconds(first + calibration),
        smaller=steps(n_smaller, n_all if options.screen_images else n_smaller),
        cpu_seconds=subnet.cpu_seconds_per_second * sum(step.seconds for step in whole),
    )


def _steps(
    space: Space,
    options: SearchOptions,
    subnet: SubnetTime,
    deployed: SubnetTime | None,
    n_first: int,
    n_last: int,
    calibration: int,
) -> list[Step]:
    """All steps; the search evaluates on `n_first` images, a second stage on `n_last`.

    `deployed` is the time of an evaluation as deployed on validation images alone, if there are such steps.
    """
    share = options.deployed_evaluations / options.n_subnets(mixed=True) if deployed else 0.0
    seconds = subnet.seconds(n_first + calibration)
    if deployed:
        seconds += share * deployed.seconds(n_first)
    evaluations = min(options.n_subnets(mixed=deployed is not None), space.n_subnets)
    if options.minutes is not None:
        limit = options.search_deadline(0.0)
        assert limit is not None
        evaluations = min(evaluations, max(1, int(limit / seconds)))

    def step(name: str, n: int, images: int) -> Step:
        return Step(name, n, images, n * subnet.seconds(images + calibration))

    def stage(name: str, n: int, images: int) -> list[Step]:
        found = [step(name, n, images)]
        if deployed:
            n_deployed = math.ceil(share * n)
            seconds = n_deployed * deployed.seconds(images)
            found.append(Step(f"{name}, as deployed", n_deployed, images, seconds))
        return found

    def whole(name: str) -> list[Step]:
        found = stage(name, evaluations, n_first)
        if options.screen_images:
            found += stage(f"{name}, front on all images", n_full(evaluations), n_last)
        return found

    again = min(options.noise_ceiling, evaluations)
    front_seconds = FRONT_SUBNETS * deployed.seconds(n_last) if deployed else 0.0
    return [
        *whole("search"),
        *([Step("front, as deployed", FRONT_SUBNETS, n_last, front_seconds)] if deployed else []),
        *([step("noise ceiling", again, n_first)] if again else []),
        *(whole("random baseline") if options.baseline else []),
    ]


def _calibration_images(trained: TrainedRun) -> int:
    if not trained.space.has_batch_norm:
        return 0
    return min(METHODS[DEFAULT].images, len(trained.dataset.split("train")))
