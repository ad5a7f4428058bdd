"""A search as a step of a run: from a trained supernet and a device to a measured front on disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd

from hw_profiles.local import benchmark
from hw_profiles.store import Device, write_device
from nas import objectives as objective_table
from nas import onnx_graph
from nas.hypervolume import nondominated
from nas.objectives import Context, Objective, Problem, parse_constraint
from nas.plugins import resolve
from nas.predictor_record import PredictorRecord, judge_predictor
from nas.progress import Progress, silent
from nas.report import front_plot
from nas.run_dir import BASELINE, FRONT, FRONT_PLOT, PREDICTOR, PROFILES, SEARCH, SEARCH_CSV
from nas.search import search
from nas.search_result import SearchResult
from nas.trained_run import DEFAULT_METRICS, TrainedRun
from predictors import PREDICTORS, PredictorFactory
from search_spaces import Arch, Space

DEFAULT_OBJECTIVES = ("cross_entropy", "latency_ms")
DEFAULT_BUDGET = 200
"""Real evaluations of a search."""


@dataclass(frozen=True)
class SearchOutcome:
    """What a search leaves in its run, as values."""

    front: pd.DataFrame
    """The measured non-dominated subnets: see `SearchResult.evaluations`, and `measured_latency_ms`, on the
    device, and `keeps_limits`, as measured."""
    baseline: pd.DataFrame
    """The same of random search with equally many real evaluations."""
    result: SearchResult
    random: SearchResult
    predictor: PredictorRecord


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
    progress: Progress = silent,
) -> SearchOutcome:
    """Search the best subnets for a device, measure them there, and write everything to the run.

    Stopped, it goes on where it was when it is called again: evaluations are kept in the archive.

    Args:
        trained: the run.
        device: where the subnets shall run; this machine measures them.
        objectives: names as in `nas.objectives.OBJECTIVES`, or `module:object`.
        maxima: upper limits such as `latency_ms=2`.
        minima: lower limits such as `accuracy=0.95`.
        algorithm: as in `nas.search.search`.
        predictors: names of the candidates, or `module:object`; none: all that there are.
        budget: real evaluations, those for fitting and for validation included.
        seed: of everything random.
        progress: hears about evaluations and measurements.

    Raises:
        ValueError: unknown names, a table that lacks blocks of the space, or limits that no subnet keeps.
    """
    space = trained.space
    write_device(trained.run.file(PROFILES) / device.profile.name, device)
    problem = make_problem(space, device, objectives, maxima, minima)
    evaluate = trained.evaluator(
        extra_metrics=[name for name in problem.metrics if name not in DEFAULT_METRICS], progress=progress
    )
    candidates: Mapping[str, PredictorFactory] = {
        name: resolve("predictor", name, PREDICTORS) for name in predictors or PREDICTORS
    }
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
    predictor = judge_predictor(trained, result.evaluations, random.evaluations, candidates, seed, progress)
    outcome = SearchOutcome(
        measured_front(result, device, progress),
        measured_front(random, device, progress),
        result,
        random,
        predictor,
    )
    _write(trained, device, outcome, seed)
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
    context = Context(space, {device.profile.name: device.table.of(space)})
    limits = [parse_constraint(text, "max", context) for text in maxima]
    limits += [parse_constraint(text, "min", context) for text in minima]
    return Problem(space, [objective_table.get(name, context) for name in objectives], limits)


def measured_front(result: SearchResult, device: Device, progress: Progress = silent) -> pd.DataFrame:
    """The front of a search with each subnet's latency measured, without those that this shows dominated."""
    front, problem = result.front, result.problem
    archs = [Arch.from_json(text) for text in front["arch"]]
    genomes = problem.space.encode(archs)
    measured = measure_latency(problem.space, archs, device, progress)
    front["latency_ms"] = device.table.predict(genomes, problem.space)
    front["measured_latency_ms"] = measured
    metrics = {name: front[name].to_numpy(dtype=np.float64) for name in problem.metrics}
    latency = {o.name: np.array(measured) for o in problem.objectives if _is_latency(o)}
    minimised = problem.minimised(genomes, metrics)
    for column, objective in enumerate(problem.objectives):
        if objective.name in latency:
            minimised[:, column] = latency[objective.name]
    front["keeps_limits"] = [
        all(
            value <= limit.bound
            for limit in problem.constraints
            if _is_latency(limit.objective) and limit.sense == "max"
        )
        for value in measured
    ]
    return front.iloc[nondominated(minimised)].reset_index(drop=True)


def _is_latency(objective: Objective) -> bool:
    return objective.unit == "ms"


def measure_latency(
    space: Space, archs: Sequence[Arch], device: Device, progress: Progress = silent
) -> list[float]:
    """Latency in ms of each arch alone in a fresh process, with the device's threads, provider and batch.

    Latency does not depend on the weights, so they are random.
    """
    key, rng = device.profile.key, np.random.default_rng(0)
    measured = []
    with TemporaryDirectory() as folder:
        for i, arch in enumerate(archs):
            layers = space.layers(arch)
            model = onnx_graph.build(layers, onnx_graph.random_weights(layers, rng), batch=key.batch)
            path = Path(folder) / f"{arch.id}.onnx"
            path.write_bytes(model.SerializeToString())
            measured.append(benchmark(path, key.threads, key.provider).latency_ms)
            progress("measure latency", i + 1, len(archs))
    return measured


def _write(trained: TrainedRun, device: Device, outcome: SearchOutcome, seed: int) -> None:
    run, result = trained.run, outcome.result
    record: dict[str, Any] = result.record() | {
        "maximised": [o.name for o in result.problem.objectives if o.maximise],
        "device": device.profile.name,
        "batch": device.profile.key.batch,
        "seed": seed,
        "baseline_hypervolume": outcome.random.hypervolume,
    }
    run.write_csv(SEARCH_CSV, result.evaluations)
    run.write_csv(FRONT, outcome.front)
    run.write_csv(BASELINE, outcome.baseline)
    run.write_json(PREDICTOR, outcome.predictor)
    run.write_json(SEARCH, record)
    run.write_text(
        FRONT_PLOT,
        front_plot(
            trained.space,
            outcome.front,
            result.evaluations,
            outcome.baseline,
            record["reference"],
        ),
    )
    trained.write_archive_csv()
