"""A search as a step of a run: from a trained supernet and a device to a measured front on disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hw_profiles.local import benchmark
from hw_profiles.store import Device, write_device
from nas import onnx_graph
from nas.certificate import Certificate, certify
from nas.compromise import Compromise, best_for_all
from nas.hypervolume import nondominated
from nas.objectives import Computed, Objective, Problem, is_latency
from nas.plugins import check, resolve
from nas.predictor_record import PredictorRecord, judge_predictor
from nas.progress import Progress, silent
from nas.report import front_plot
from nas.run_dir import (
    BASELINE,
    FRONT,
    FRONT_PLOT,
    PREDICTOR,
    PROFILES,
    SEARCH,
    SEARCH_CSV,
    SURROGATE,
    front_of,
)
from nas.search import search
from nas.search_problem import DEFAULT_OBJECTIVES, make_problem, problem_on, read_front
from nas.search_result import SearchResult
from nas.stored_surrogate import StoredMetric, StoredSurrogate
from nas.trained_run import DEFAULT_METRICS, TrainedRun
from nas.workers import Workers
from predictors import (
    CANDIDATES,
    PREDICTORS,
    AdditiveFit,
    Features,
    PredictorFactory,
    Regressor,
    fit_additive,
)
from search_spaces import Arch, Space

DEFAULT_BUDGET = 200
"""Real evaluations of a search."""
UNLIMITED_BUDGET = 10_000
"""The same where only time ends it."""


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
    surrogate: StoredSurrogate
    """Metrics as sums over slots, for `nas pick`."""
    certificate: Certificate | None
    """None where an objective does not add up over slots."""
    fronts: Mapping[str, pd.DataFrame]
    """By each further device: its front, with the latency of its table in `latency_ms`."""
    compromise: Compromise | None
    """With further devices: the best single subnet for all of them, a row of `result.evaluations`."""

    @property
    def best_for_all(self) -> dict[str, Any] | None:
        """`arch_id`, `arch` (JSON) and `regret` by device of that subnet."""
        if self.compromise is None:
            return None
        row = self.result.evaluations.iloc[self.compromise.row]
        return {"arch_id": row["arch_id"], "arch": row["arch"], "regret": dict(self.compromise.regret)}


def search_run(
    trained: TrainedRun,
    device: Device,
    *,
    others: Sequence[Device] = (),
    objectives: Sequence[str] = DEFAULT_OBJECTIVES,
    maxima: Sequence[str] = (),
    minima: Sequence[str] = (),
    algorithm: str = "iterative",
    predictors: Sequence[str] = (),
    budget: int | None = None,
    minutes: float | None = None,
    warm_start: Path | None = None,
    workers: Workers | None = None,
    seed: int = 0,
    progress: Progress = silent,
) -> SearchOutcome:
    """Search the best subnets for a device, measure them there, and write everything to the run.

    Stopped, it goes on where it was when it is called again: evaluations are kept in the archive.

    Args:
        trained: the run.
        device: where the subnets shall run; this machine measures them.
        others: further devices that the same search serves, by their tables; `latency_ms` as an objective
            stands for the latency on each of them.
        objectives: names as in `nas.objectives.OBJECTIVES`, or `module:object`.
        maxima: upper limits such as `latency_ms=2`.
        minima: lower limits such as `accuracy=0.95`.
        algorithm: as in `nas.search.search`.
        predictors: names of the candidates, or `module:object`; none: `CANDIDATES`.
        budget: real evaluations, those for fitting and for validation included; None: `DEFAULT_BUDGET`, or
            as many as `minutes` allow.
        minutes: time after which no batch of evaluations begins.
        warm_start: a searched run, or the table of a front (CSV), whose subnets are evaluated first.
        workers: where subnets are evaluated; None: one thread per core.
        seed: of everything random.
        progress: hears about evaluations and measurements.

    Raises:
        ValueError: unknown names, a table that lacks blocks of the space, or limits that no subnet keeps.
    """
    problem = make_problem(trained.space, device, objectives, maxima, minima, others)
    candidates = _predictors(trained.space, predictors or tuple(CANDIDATES), seed)
    start = None if warm_start is None else read_front(warm_start, trained.space)
    evaluate = trained.evaluator(extra_metrics=problem.metrics, workers=workers, progress=progress)
    everything = search(
        problem,
        evaluate,
        algorithm=algorithm,
        budget=budget or (DEFAULT_BUDGET if minutes is None else UNLIMITED_BUDGET),
        seed=seed,
        predictors=candidates,
        start=start,
        minutes=minutes,
    )
    baseline = search(
        problem,
        evaluate,
        algorithm="random",
        budget=len(everything.evaluations),
        seed=seed,
        predictors=candidates,
        origin="baseline",
    )
    own = problem_on(problem, device)
    result, random = everything.seen_as(own), baseline.seen_as(own)
    predictor = judge_predictor(trained, random.evaluations, candidates, seed, progress)
    fits = _additive_fits(trained.space, [result, random])
    found = trained.space.encode([Arch.from_json(text) for text in result.front["arch"]])
    outcome = SearchOutcome(
        measured_front(result, device, progress),
        measured_front(random, device, progress),
        result,
        random,
        predictor,
        StoredSurrogate(
            n_train=len(_known(result, random)),
            metrics={name: StoredMetric.of(fit.table, fit.tau, fit.rmse) for name, fit in fits.items()},
        ),
        certify(own, fits, found, result.reference),
        {other.profile.name: _table_front(everything, other) for other in others},
        _compromise(everything, [device, *others]) if others else None,
    )
    _write(trained, device, outcome, seed)
    return outcome


def _known(*results: SearchResult) -> pd.DataFrame:
    """Every subnet that the searches evaluated, once."""
    return pd.concat([result.evaluations for result in results]).drop_duplicates("arch_id")


def _additive_fits(space: Space, results: Sequence[SearchResult]) -> dict[str, AdditiveFit]:
    """Each metric that was measured as a sum over slots, fitted to everything that the searches evaluated."""
    known = _known(*results)
    genomes = space.encode([Arch.from_json(text) for text in known["arch"]])
    names = dict.fromkeys((*DEFAULT_METRICS, *results[0].problem.metrics))
    return {name: fit_additive(space, genomes, known[name].to_numpy(dtype=np.float64)) for name in names}


def _table_front(result: SearchResult, device: Device) -> pd.DataFrame:
    """The front for a device that is not measured here."""
    own = result.seen_as(problem_on(result.problem, device))
    genomes = own.problem.space.encode([Arch.from_json(text) for text in own.front["arch"]])
    return own.front.assign(latency_ms=device.table.predict(genomes, own.problem.space))


def _compromise(result: SearchResult, devices: Sequence[Device]) -> Compromise:
    """The best single subnet for all devices among those that keep every limit."""
    rows = np.flatnonzero(result.evaluations["feasible"])
    minimised = {
        device.profile.name: result.evaluated(problem_on(result.problem, device)).minimised[rows]
        for device in devices
    }
    best = best_for_all(minimised)
    return replace(best, row=int(rows[best.row]))


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
        "calibration": trained.evaluator().calibration.key,
        "batch": device.profile.key.batch,
        "seed": seed,
        "baseline_hypervolume": outcome.random.hypervolume,
        "devices": [device.profile.name, *outcome.fronts],
        "best_for_all": outcome.best_for_all,
        "certificate": outcome.certificate.record() if outcome.certificate else None,
    }
    run.write_csv(SEARCH_CSV, result.evaluations)
    run.write_csv(FRONT, outcome.front)
    run.write_csv(BASELINE, outcome.baseline)
    for name, front in outcome.fronts.items():
        run.write_csv(front_of(name), front)
    run.write_json(PREDICTOR, outcome.predictor)
    run.write_json(SURROGATE, outcome.surrogate)
    run.write_json(SEARCH, record)
    evaluations = result.evaluations.assign(split="validation")
    reference = record["reference"]
    plot = front_plot(trained.space, outcome.front, evaluations, outcome.baseline, reference)
    run.write_text(FRONT_PLOT, plot)
    trained.write_archive_csv()
