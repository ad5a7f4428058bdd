"""Searches seen from their device: fronts of measured latencies and of the accuracies as deployed."""

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
from nas.evaluation.trained_run import TrainedRun
from nas.progress import Progress
from nas.runs.files import PROFILES
from nas.search.deployed_accuracy import DeployedAccuracies
from nas.search.search_result import SearchResult
from nas.search.validation import MAX_ROUNDS, Validation, measure_fronts


@dataclass(frozen=True)
class Validated:
    """Fronts as they are on the device."""

    fronts: list[pd.DataFrame]
    evaluations: pd.DataFrame
    """All of the first search, marked."""
    waiting: int
    pending: NotMeasuredError | None
    """What a person who carries the next bundle is told."""


def validate(
    results: Sequence[SearchResult],
    device: Device,
    trained: TrainedRun,
    measured: MeasuredLatencies,
    deployed: DeployedAccuracies,
    connection: Connection | None,
    progress: Progress,
) -> Validated:
    """Measure fronts on their device and, where its precision is not fp32, their accuracies.

    Args:
        results: of searches for the same device.
        device: the device.
        trained: the run that was searched.
        measured: what is measured already, and what gets added.
        deployed: accuracies in the device's precision that are known already, and what gets added.
        connection: reaches the device; None: the fronts stay those of predicted latencies.
        progress: hears about each subnet.

    Raises:
        ValueError: the device cannot be reached, is another one, or computes wrongly.
    """
    predict, noise = device.latency(trained.space), device.profile.noise_floor or 0.0
    fronts = [Validation(deployed.beside(result), predict, noise) for result in results]
    pending = None
    for _ in range(MAX_ROUNDS):
        pending = measure_fronts(fronts, measured, connection, progress) if connection else None
        unknown = deployed.missing([arch for front in fronts for arch in front.archs(measured.ms)])
        if not unknown:
            break
        deployed.add(unknown)
        fronts = [replace(front, result=deployed.beside(front.result)) for front in fronts]
    measured_only = connection is not None and pending is None
    return Validated(
        [front.front(measured.ms, measured_only=measured_only) for front in fronts],
        fronts[0].marked(measured.ms),
        len({arch.id for front in fronts for arch in front.missing(measured.ms)}),
        pending,
    )


def accuracies_on(
    device: Device, trained: TrainedRun, metrics: Sequence[str], progress: Progress
) -> DeployedAccuracies:
    """Accuracies in a device's precision, none of them known yet; `metrics` beside the default ones."""
    known = trained.evaluator(extra_metrics=metrics).metrics
    return DeployedAccuracies(trained, Target.of(device), known, progress)


def latencies_on(device: Device, trained: TrainedRun) -> MeasuredLatencies:
    """What is measured on a device already of the run's subnets, kept in the run."""
    folder = trained.run.file(PROFILES) / device.profile.name
    return MeasuredLatencies(folder, device, trained.space, _validation_images(trained))


def _validation_images(trained: TrainedRun) -> ImagesOf:
    """The first validation images, as networks read them."""

    def images(size: int) -> Images:
        n = n_images(trained.space.config.channels, size)
        batch, _ = next(iter(eval_batches(trained.dataset, "validation", size, n)))
        return batch.numpy().astype(np.float16)

    return images
