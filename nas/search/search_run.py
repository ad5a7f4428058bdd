"""A search as a step of a run: from a trained supernet and a device to a measured front on disk."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from hw_profiles.connections.base import Connection
from hw_profiles.doubts import doubts_about, doubts_about_order
from hw_profiles.store import Device, write_device
from nas.assessment.predictor_record import PredictorRecord, judge_predictor
from nas.evaluation.workers import Workers
from nas.plugins import check, resolve
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
from nas.search.certificate import Certificate, certify
from nas.search.compromise import Compromise, best_for_all
from nas.search.search import search
from nas.search.search_problem import DEFAULT_OBJECTIVES, make_problem, problem_on, read_front
from nas.search.search_result import SearchResult
from nas.search.stored_surrogate import StoredMetric, StoredSurrogate
from nas.search.validated_search import latencies_on, validate
from nas.trained_run import DEFAULT_METRICS, TrainedRun
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
    connection: Connection | None = None,
    measure: bool = True,
    progress: Progress = silent,
) -> SearchOutcome:
    """Search the best subnets for a device, measure them there, and write everything to the run.

    Stopped, it goes on where it was when it is called again: evaluations are kept in the archive.

    Args:
        trained: the run.
        device: where the subnets shall run.
        others: further devices that the same search serves, by their tables; `latency_ms` as an objective
            stands for the latency on each of them.
        objectives: names as in `nas.problem.objectives.OBJECTIVES`, or `module:object`.
        maxima: upper limits such as `latency_ms=2`.
        minima: lower limits such as `accuracy=0.95`.
        algorithm: as in `nas.search.search.search`.
        predictors: names of the candidates, or `module:object`; none: `CANDIDATES`.
        budget: real evaluations, those for fitting and for validation included; None: `DEFAULT_BUDGET`, or
            as many as `minutes` allow.
        minutes: time after which no batch of evaluations begins.
        warm_start: a searched run, or the table of a front (CSV), whose subnets are evaluated first.
        workers: where subnets are evaluated; None: one thread per core.
        seed: of everything random.
        connection: reaches the device instead of the profile's.
        measure: False: the front is that of predicted latencies, and says so.
        progress: hears about evaluations and measurements.

    Raises:
        NotMeasuredError: a person carries the bundle; everything is written, with predicted latencies.
        ValueError: unknown names, a table that lacks blocks of the space, limits that no subnet keeps, or a
            device that cannot be reached, is another one, or computes wrongly.
    """
    if trained.info.arch:
        raise ValueError(f"the run {trained.run.path} holds one subnet: there is nothing to search")
    measured = latencies_on(device, trained)
    reached = (connection or device.profile.connection) if measure else None
    if reached:
        measured.prepare(reached)
    problem = make_problem(trained.space, device, objectives, maxima, minima, others, allow_import=True)
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
        allow_import=True,
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
    validated = validate([result, random], device, trained, measured, reached, progress)
    front, random_front = validated.fronts
    fits = _additive_fits(trained.space, [result, random])
    found = trained.space.encode([Arch.from_json(text) for text in result.front["arch"]])
    doubts = doubts_about(device.profile) + doubts_about_order(device.profile, front["latency_ms"].to_numpy())
    for doubt in doubts:
        _log.warning("%s", doubt)
    outcome = SearchOutcome(
        front,
        random_front,
        result,
        random,
        predictor,
        validated.waiting,
        doubts,
        StoredSurrogate(
            n_train=len(_known(result, random)),
            metrics={name: StoredMetric.of(fit.table, fit.tau, fit.rmse) for name, fit in fits.items()},
        ),
        certify(own, fits, found, result.reference),
        {other.profile.name: _table_front(everything, other) for other in others},
        _compromise(everything, [device, *others]) if others else None,
    )
    _write(trained, device, outcome, validated.evaluations, seed)
    if validated.pending:
        raise validated.pending
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
    return own.front.assign(latency_ms=device.latency(own.problem.space)(genomes))


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
        found[name] = resolve("predictor", name, PREDICTORS, allow_import=True)
        check("predictor", name, found[name](features, seed), Regressor)
    return found


def _write(
    trained: TrainedRun, device: Device, outcome: SearchOutcome, evaluations: pd.DataFrame, seed: int
) -> None:
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
        "doubts": outcome.doubts,
        "certificate": outcome.certificate.record() if outcome.certificate else None,
    }
    run.write_csv(SEARCH_CSV, evaluations)
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
