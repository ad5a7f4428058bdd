"""A search as a step of a run: from a trained supernet and a device to a measured front on disk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hw_profiles.local import benchmark
from hw_profiles.store import Device, write_device
from nas import objectives as objective_table
from nas import onnx_graph
from nas.hypervolume import nondominated
from nas.objectives import Computed, Context, Objective, Problem, is_latency, parse_constraint
from nas.plugins import check, resolve
from nas.predictor_record import PredictorRecord, judge_predictor
from nas.progress import Progress, silent
from nas.report import front_plot
from nas.run_dir import BASELINE, FRONT, FRONT_PLOT, PREDICTOR, PROFILES, SEARCH, SEARCH_CSV
from nas.search import search
from nas.search_result import SearchResult
from nas.trained_run import TrainedRun
from predictors import CANDIDATES, PREDICTORS, Features, PredictorFactory, Regressor
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
        predictors: names of the candidates, or `module:object`; none: `CANDIDATES`.
        budget: real evaluations, those for fitting and for validation included.
        seed: of everything random.
        progress: hears about evaluations and measurements.

    Raises:
        ValueError: unknown names, a table that lacks blocks of the space, or limits that no subnet keeps.
    """
    problem = make_problem(trained.space, device, objectives, maxima, minima)
    candidates = _predictors(trained.space, predictors or tuple(CANDIDATES), seed)
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


def measured_front(result: SearchResult, device: Device, progress: Progress = silent) -> pd.DataFrame:
    """The front of a search with each subnet's latency measured, without those that this shows dominated.

    A subnet that keeps the limits as measured is never dominated by one that misses them (Deb 2000).
    """
    front, space = result.front, result.problem.space
    archs = [Arch.from_json(text) for text in front["arch"]]
    genomes = space.encode(archs)
    latency_ms = np.array(measure_latency(space, archs, device, progress))
    front["latency_ms"] = device.table.predict(genomes, space)
    front["measured_latency_ms"] = latency_ms
    metrics = {name: front[name].to_numpy(dtype=np.float64) for name in result.problem.metrics}
    problem = _as_measured(result.problem, latency_ms)
    excess = np.maximum(problem.violations(genomes, metrics), 0).sum(axis=1)
    front["keeps_limits"] = excess == 0
    points = np.column_stack([problem.minimised(genomes, metrics), excess])
    return front.iloc[nondominated(points)].reset_index(drop=True)


def _as_measured(problem: Problem, latency_ms: NDArray[np.float64]) -> Problem:
    """The problem for the very subnets, in their order, whose latency was measured."""

    def measured(objective: Objective) -> Objective:
        if not is_latency(objective.name):
            return objective
        return Computed(objective.name, lambda genomes: latency_ms, objective.unit)

    limits = [replace(limit, objective=measured(limit.objective)) for limit in problem.constraints]
    return Problem(problem.space, [measured(o) for o in problem.objectives], limits)


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
    write_device(run.file(PROFILES) / device.profile.name, device)
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
    evaluations = result.evaluations.assign(split="validation")
    reference = record["reference"]
    plot = front_plot(trained.space, outcome.front, evaluations, outcome.baseline, reference)
    run.write_text(FRONT_PLOT, plot)
    trained.write_archive_csv()
