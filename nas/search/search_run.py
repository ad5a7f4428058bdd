"""A search as a step of a run: from a trained supernet and a device to a measured front on disk."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from hw_profiles.connections.base import Connection, NotMeasuredError
from hw_profiles.doubts import doubts_about, doubts_about_order
from hw_profiles.store import Device
from nas.assessment.predictor_record import judge_predictor
from nas.devices.measured_latencies import MeasuredLatencies
from nas.evaluation.workers import Workers
from nas.plugins import check, resolve
from nas.progress import Progress, silent
from nas.run_lock import writes_run
from nas.search.certificate import certify
from nas.search.compromise import Compromise, best_for_all
from nas.search.search import search
from nas.search.search_outcome import DeviceOutcome, SearchOutcome
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


@writes_run
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
    trained.run.refuse_read_only("copy the run to where it can be")
    measured = latencies_on(device, trained)
    reached = (connection or device.connection) if measure else None
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
        deadline=None if minutes is None else time.monotonic() + 60 * minutes,
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
    fits = _additive_fits(trained.space, [everything, baseline])
    predictor = judge_predictor(trained, baseline.evaluations, candidates, seed, progress)
    searches = _Searches(trained, everything, baseline, fits, progress)
    own, pending = searches.seen_on(device, measured, reached)
    for doubt in own.doubts:
        _log.warning("%s", doubt)
    further = [searches.seen_on(other, latencies_on(other, trained), None)[0] for other in others]
    outcome = SearchOutcome(
        own,
        tuple(further),
        predictor,
        StoredSurrogate(
            n_train=len(_known(everything, baseline)),
            metrics={name: StoredMetric.of(fit.table, fit.tau, fit.rmse) for name, fit in fits.items()},
        ),
        _compromise(everything, [device, *others]) if others else None,
    )
    outcome.write(trained, seed)
    if pending:
        raise pending
    return outcome


@dataclass(frozen=True)
class _Searches:
    """A search and its baseline, to be seen from each of their devices."""

    trained: TrainedRun
    found: SearchResult
    baseline: SearchResult
    fits: Mapping[str, AdditiveFit]
    progress: Progress

    def seen_on(
        self, device: Device, measured: MeasuredLatencies, connection: Connection | None
    ) -> tuple[DeviceOutcome, NotMeasuredError | None]:
        """What was found for one device, measured there where there is a connection."""
        space = self.trained.space
        problem = problem_on(self.found.problem, device)
        result, random = self.found.seen_as(problem), self.baseline.seen_as(problem)
        validated = validate([result, random], device, self.trained, measured, connection, self.progress)
        front, random_front = validated.fronts
        genomes = space.encode([Arch.from_json(text) for text in result.front["arch"]])
        latency_ms = front["latency_ms"].to_numpy(dtype=np.float64)
        outcome = DeviceOutcome(
            device=device,
            result=result,
            random=random,
            evaluations=validated.evaluations,
            front=front,
            baseline=random_front,
            waiting=validated.waiting,
            doubts=doubts_about(device.profile) + doubts_about_order(device.profile, latency_ms),
            certificate=certify(problem, self.fits, genomes, result.reference),
        )
        return outcome, validated.pending


def _known(*results: SearchResult) -> pd.DataFrame:
    """Every subnet that the searches evaluated, once."""
    return pd.concat([result.evaluations for result in results]).drop_duplicates("arch_id")


def _additive_fits(space: Space, results: Sequence[SearchResult]) -> dict[str, AdditiveFit]:
    """Each metric that was measured as a sum over slots, fitted to everything that the searches evaluated."""
    known = _known(*results)
    genomes = space.encode([Arch.from_json(text) for text in known["arch"]])
    names = dict.fromkeys((*DEFAULT_METRICS, *results[0].problem.metrics))
    return {name: fit_additive(space, genomes, known[name].to_numpy(dtype=np.float64)) for name in names}


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
