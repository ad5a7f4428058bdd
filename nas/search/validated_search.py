"""Fronts with latencies and accuracies as measured on their device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from hw_profiles.connections.base import Connection, NotMeasuredError
from hw_profiles.device import Device
from hw_profiles.measuring.bundle import Images
from nas.data.batches import eval_batches
from nas.devices.check_images import n_images
from nas.devices.measured_latencies import ImagesOf, MeasuredLatencies
from nas.evaluation.deployed import Target
from nas.evaluation.deployed_evaluator import DeployedEvaluator
from nas.evaluation.trained_run import TrainedRun
from nas.progress import Progress
from nas.runs.files import PROFILES
from nas.search.deployed_accuracy import DeployedAccuracies
from nas.search.problem.problem import Problem
from nas.search.search_result import SearchResult
from nas.search.validation import MAX_ROUNDS, Validation, measure_fronts
from search_spaces import Space


@dataclass(frozen=True)
class Validated:
    """Fronts as measured on the device."""

    fronts: list[pd.DataFrame]
    evaluations: pd.DataFrame
    """All evaluations of the first search, with the columns of latencies, see `Validation.front`."""
    waiting: int
    """Number of subnets of the fronts that are not measured yet."""
    pending: NotMeasuredError | None
    """The error with instructions, if the next round needs an offline bundle."""


def validate(
    results: Sequence[SearchResult],
    device: Device,
    trained: TrainedRun,
    measured: MeasuredLatencies,
    deployed: DeployedAccuracies,
    connection: Connection | None,
    progress: Progress,
) -> Validated:
    """Measure the latencies of fronts on their device and, if its precision is not fp32, their accuracies.

    Args:
        results: the results of searches for the same device.
        device: the device.
        trained: the run that was searched.
        measured: the latencies so far; new ones are added.
        deployed: the metrics in the device's precision so far; new ones are added.
        connection: connection to the device; None: the fronts have predicted latencies.
        progress: called after each subnet.

    Raises:
        ValueError: the device cannot be reached, is not the device of the profile, or computes wrong outputs.
    """
    predict, noise = device.latency(measured.space), device.profile.noise_floor or 0.0
    fronts = [Validation(deployed.applied_to(result), predict, noise) for result in results]
    pending = None
    for _ in range(MAX_ROUNDS):
        while unknown := deployed.missing([arch for front in fronts for arch in front.archs(measured.ms)]):
            deployed.add(unknown)
            fronts = [replace(front, result=deployed.applied_to(front.result)) for front in fronts]
        before = len(measured.ms)
        pending = measure_fronts(fronts, measured, connection, progress) if connection else None
        if len(measured.ms) == before:
            break
    measured_only = connection is not None and pending is None
    return Validated(
        [front.front(measured.ms, measured_only=measured_only) for front in fronts],
        fronts[0].marked(measured.ms),
        len({arch.id for front in fronts for arch in front.missing(measured.ms)}),
        pending,
    )


def accuracies_on(
    device: Device, trained: TrainedRun, problem: Problem, progress: Progress
) -> DeployedAccuracies:
    """The metrics of the task and of the problem, in the precision of a device."""
    evaluator = trained.evaluator(extra_metrics=problem.metrics)
    deployed = DeployedEvaluator(trained, Target.of(device), evaluator.metrics, progress)
    return DeployedAccuracies(problem.space, evaluator, deployed)


def latencies_on(device: Device, trained: TrainedRun, space: Space) -> MeasuredLatencies:
    """The latencies of subnets of `space` that were measured on a device, stored in the run."""
    folder = trained.run.file(PROFILES) / device.profile.name
    return MeasuredLatencies(folder, device, space, _validation_images(trained))


def _validation_images(trained: TrainedRun) -> ImagesOf:
    """The first validation images, as networks read them."""

    def images(size: int) -> Images:
        n = n_images(trained.space.config.channels, size)
        batch, _ = next(iter(eval_batches(trained.dataset, "validation", size, n)))
        return batch.numpy().astype(np.float16)

    return images
