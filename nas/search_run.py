"""A search as a step of a run: from a trained supernet and a device to a measured front on disk."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from hw_profiles.bundle import Images
from hw_profiles.connections.base import Connection
from hw_profiles.doubts import doubts_about, doubts_about_order
from hw_profiles.store import Device, write_device
from nas import objectives as objective_table
from nas.check_images import n_images
from nas.data.batches import eval_batches
from nas.deployed import Target
from nas.deployed_accuracy import DeployedAccuracies
from nas.measured_latencies import ImagesOf, MeasuredLatencies
from nas.objectives import Context, Problem, parse_constraint
from nas.plugins import check, resolve
from nas.predictor_record import PredictorRecord, judge_predictor
from nas.progress import Progress, silent
from nas.report import front_plot
from nas.run_dir import BASELINE, FRONT, FRONT_PLOT, PREDICTOR, PROFILES, SEARCH, SEARCH_CSV
from nas.search import search
from nas.search_result import SearchResult
from nas.trained_run import TrainedRun
from nas.validation import MAX_ROUNDS, Validation, measure_fronts
from predictors import PREDICTORS, Features, PredictorFactory, Regressor
from search_spaces import Space

DEFAULT_OBJECTIVES = ("cross_entropy", "latency_ms")
DEFAULT_BUDGET = 200
"""Real evaluations of a search."""
_log = logging.getLogger("nas")


@dataclass(frozen=True)
class SearchOutcome:
    """What a search leaves in its run, as values."""

    front: pd.DataFrame
    """The non-dominated subnets as measured on the device: see `Validation.front`."""
    baseline: pd.DataFrame
    """The same of random search with equally many real evaluations."""
    result: SearchResult
    random: SearchResult
    predictor: PredictorRecord
    waiting: int
    """Subnets of the fronts that are not measured yet."""
    doubts: list[str]
    """What speaks against trusting the predicted latencies."""


def search_run(
    trained: TrainedRun,
    device: Device,
    *,
    objectives: Sequence[str] = DEFAULT_OBJECTIVES,
    maxima: Sequence[str] = (),
    minima: Sequence[str] = (),
    algorithm: str = "iterative",
    predictors: Sequence[str] = (),
    budget: int = DEFAULT_BUDGET,
    seed: int = 0,
    connection: Connection | None = None,
    measure: bool = True,
    progress: Progress = silent,
) -> SearchOutcome:
    """Search the best subnets for a device, measure them there, and write everything to the run.

    Stopped, it goes on where it was when it is called again: evaluations are kept in the archive.

    Args:
        trained: the run.
        device: where the subnets shall run.
        objectives: names as in `nas.objectives.OBJECTIVES`, or `module:object`.
        maxima: upper limits such as `latency_ms=2`.
        minima: lower limits such as `accuracy=0.95`.
        algorithm: as in `nas.search.search`.
        predictors: names of the candidates, or `module:object`; none: all that there are.
        budget: real evaluations, those for fitting and for validation included.
        seed: of everything random.
        connection: reaches the device instead of the profile's.
        measure: False: the front is that of predicted latencies, and says so.
        progress: hears about evaluations and measurements.

    Raises:
        NotMeasuredError: a person carries the bundle; everything is written, with predicted latencies.
        ValueError: unknown names, a table that lacks blocks of the space, limits that no subnet keeps, or a
            device that cannot be reached, is another one, or computes wrongly.
    """
    measured = MeasuredLatencies(
        trained.run.file(PROFILES) / device.profile.name, device, trained.space, _validation_images(trained)
    )
    reached = (connection or device.profile.connection) if measure else None
    if reached:
        measured.prepare(reached)
    problem = make_problem(trained.space, device, objectives, maxima, minima)
    candidates = _predictors(trained.space, predictors or tuple(PREDICTORS), seed)
    evaluate = trained.evaluator(extra_metrics=problem.metrics, progress=progress)
    result = search(problem, evaluate, algorithm=algorithm, budget=budget, seed=seed, predictors=candidates)
    random = search(
        problem,
        evaluate,
        algorithm="random",
        budget=budget,
        seed=seed,
        predictors=candidates,
        origin="baseline",
    )
    predictor = judge_predictor(trained, random.evaluations, candidates, seed, progress)
    deployed = DeployedAccuracies(trained, Target.of(device), evaluate.metrics, progress)
    fronts = [
        Validation(deployed.beside(found), device.latency(trained.space), device.profile.noise_floor or 0.0)
        for found in (result, random)
    ]
    pending = None
    for _ in range(MAX_ROUNDS):
        pending = measure_fronts(fronts, measured, reached, progress) if reached else None
        unknown = deployed.missing([arch for found in fronts for arch in found.archs(measured.ms)])
        if not unknown:
            break
        deployed.add(unknown)
        fronts = [replace(found, result=deployed.beside(found.result)) for found in fronts]
    measured_only = reached is not None and pending is None
    front, baseline = (found.front(measured.ms, measured_only=measured_only) for found in fronts)
    waiting = {arch.id for found in fronts for arch in found.missing(measured.ms)}
    doubts = doubts_about(device.profile) + doubts_about_order(device.profile, front["latency_ms"].to_numpy())
    for doubt in doubts:
        _log.warning("%s", doubt)
    outcome = SearchOutcome(front, baseline, result, random, predictor, len(waiting), doubts)
    _write(trained, device, outcome, fronts[0].marked(measured.ms), seed)
    if pending:
        raise pending
    return outcome


def make_problem(
    space: Space,
    device: Device,
    objectives: Sequence[str] = DEFAULT_OBJECTIVES,
    maxima: Sequence[str] = (),
    minima: Sequence[str] = (),
) -> Problem:
    """Objectives and limits by name, for one device.

    Raises:
        ValueError: unknown names or limits that are not NAME=NUMBER.
    """
    context = Context(space, {device.profile.name: device.latency(space)})
    limits = [parse_constraint(text, "max", context) for text in maxima]
    limits += [parse_constraint(text, "min", context) for text in minima]
    return Problem(space, [objective_table.get(name, context) for name in objectives], limits)


def _predictors(space: Space, names: Sequence[str], seed: int) -> dict[str, PredictorFactory]:
    """The candidates by name.

    Raises:
        ValueError: unknown name, or a user's object that makes no `Regressor`.
    """
    features, found = Features(space), {}
    for name in names:
        found[name] = resolve("predictor", name, PREDICTORS)
        check("predictor", name, found[name](features, seed), Regressor)
    return found


def _validation_images(trained: TrainedRun) -> ImagesOf:
    """The first validation images, as networks read them."""

    def images(size: int) -> Images:
        n = n_images(trained.space.config.channels, size)
        batch, _ = next(iter(eval_batches(trained.dataset, "validation", size, n)))
        return batch.numpy().astype(np.float16)

    return images


def _write(
    trained: TrainedRun, device: Device, outcome: SearchOutcome, evaluations: pd.DataFrame, seed: int
) -> None:
    run, result = trained.run, outcome.result
    write_device(run.file(PROFILES) / device.profile.name, device)
    record: dict[str, Any] = result.record() | {
        "maximised": [o.name for o in result.problem.objectives if o.maximise],
        "device": device.profile.name,
        "batch": device.profile.key.batch,
        "seed": seed,
        "baseline_hypervolume": outcome.random.hypervolume,
        "doubts": outcome.doubts,
    }
    run.write_csv(SEARCH_CSV, evaluations)
    run.write_csv(FRONT, outcome.front)
    run.write_csv(BASELINE, outcome.baseline)
    run.write_json(PREDICTOR, outcome.predictor)
    run.write_json(SEARCH, record)
    evaluations = result.evaluations.assign(split="validation")
    reference = record["reference"]
    plot = front_plot(trained.space, outcome.front, evaluations, outcome.baseline, reference)
    run.write_text(FRONT_PLOT, plot)
    trained.write_archive_csv()
