"""A search as a step of a run: from a trained supernet and a device to a measured front on disk."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from hw_profiles.connections.base import Connection, NotMeasuredError
from hw_profiles.device import Device
from hw_profiles.profile_warnings import order_warnings, profile_warnings
from hw_profiles.store import trusted_connection
from nas.devices.measured_latencies import MeasuredLatencies
from nas.evaluation.trained_run import TrainedRun
from nas.evaluation.workers import Workers
from nas.plugins import check, resolve
from nas.progress import Progress, silent
from nas.runs.lock import writes_run
from nas.search.certificate import certify
from nas.search.minimax_regret import MinimaxRegret, minimax_regret
from nas.search.predictor_record import PredictorRecord, judge_predictor
from nas.search.problem.problem import LimitsNotMetError
from nas.search.search_loop import Evaluator, search
from nas.search.search_outcome import DeviceOutcome, SearchOutcome
from nas.search.search_problem import make_problem, problem_on, read_front
from nas.search.search_result import SearchResult
from nas.search.stored_surrogate import StoredMetric, StoredSurrogate
from nas.search.validated_search import accuracies_on, latencies_on, validate
from predictors import (
    CANDIDATES,
    PREDICTORS,
    AdditiveFit,
    Features,
    PredictorFactory,
    Regressor,
    fit_additive,
)
from predictors.selection import MIN_SAMPLES
from search_spaces import Space
from search_spaces.checked import errors_of

DEFAULT_BUDGET = 200
"""Real evaluations of a search."""
UNLIMITED_BUDGET = 10_000
"""The same where only time ends it."""
SEARCH_SHARE = 0.5
"""Share of the time that the search itself gets: its random baseline needs as long."""
_log = logging.getLogger("nas")


@writes_run
def search_run(
    trained: TrainedRun,
    device: Device,
    *,
    others: Sequence[Device] = (),
    objectives: Sequence[str] = (),
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
        objectives: names as in `nas.search.problem.objectives.get`; none: the task's primary metric and
            the latency.
        maxima: upper limits such as `latency_ms=2`.
        minima: lower limits such as `accuracy=0.95`.
        algorithm: as in `nas.search.search_loop.search`.
        predictors: names of the candidates, or `module:object`; none: `CANDIDATES`.
        budget: real evaluations, those for fitting and for validation included; None: `DEFAULT_BUDGET`, or
            as many as `minutes` allow.
        minutes: time for all evaluations: half of it for the search, the rest for the random baseline and
            the predictor's record, which may be smaller then or missing. What has begun is finished, and 10
            evaluations are made in any case. Measuring on the device comes after it.
        warm_start: a searched run, or the table of a front (CSV), whose subnets are evaluated first.
        workers: where subnets are evaluated; None: one thread per core.
        seed: of everything random.
        connection: reaches the device instead of the profile's.
        measure: False: the front is that of predicted latencies, and says so.
        progress: hears about evaluations and measurements.

    Raises:
        NotMeasuredError: a person carries the bundle; everything is written, with predicted latencies.
        ValueError: minutes that are no finite number above 0, unknown names, a table that lacks blocks of the
            space, limits that no subnet keeps, or a device that cannot be reached, is another one, or
            computes wrongly.
    """
    if trained.info.arch:
        raise ValueError(f"the run {trained.run.path} holds one subnet: there is nothing to search")
    trained.run.refuse_read_only("copy the run to where it can be")
    if minutes is not None and not 0 < minutes < math.inf:
        raise ValueError(f"--minutes must be a finite number > 0, got {minutes:g}")
    measured = latencies_on(device, trained)
    reached = (connection or trusted_connection(device)) if measure else None
    if reached:
        measured.prepare(reached)
    problem = make_problem(
        trained.space, trained.task, device, objectives, maxima, minima, others, allow_import=True
    )
    candidates = _predictors(trained.space, predictors or tuple(CANDIDATES), seed)
    if budget is None:
        budget = DEFAULT_BUDGET if minutes is None else UNLIMITED_BUDGET
    start = None if warm_start is None else read_front(warm_start, trained.space)
    evaluator = trained.evaluator(extra_metrics=problem.metrics)
    evaluate = partial(evaluator, workers=workers, progress=progress)
    began = time.monotonic()
    found = search(
        problem,
        evaluate,
        algorithm=algorithm,
        budget=budget,
        seed=seed,
        predictors=candidates,
        start=start,
        deadline=None if minutes is None else began + SEARCH_SHARE * 60 * minutes,
        allow_import=True,
    )
    results = _Results(trained, device, others, found, measured, progress)
    first, _ = results.outcome(None, "the search was stopped before its random baseline", None, None)
    first.write(trained, seed)  # nothing of what follows is needed for it
    deadline = None if minutes is None else began + 60 * minutes
    random, no_baseline = _random_baseline(found, evaluate, seed, deadline)
    predictor = None
    if random:
        predictor = judge_predictor(
            trained,
            random.evaluations,
            candidates,
            seed,
            workers=workers,
            deadline=deadline,
            progress=progress,
        )
    outcome, pending = results.outcome(random, no_baseline, predictor, reached)
    for warning in outcome.own.warnings:
        _log.warning("%s", warning)
    outcome.write(trained, seed)
    if pending:
        raise pending
    return outcome


def _random_baseline(
    found: SearchResult,
    evaluate: Evaluator,
    seed: int,
    deadline: float | None,
) -> tuple[SearchResult | None, str]:
    """Random search with as many evaluations as the search had, or why there is none."""
    if deadline is not None and time.monotonic() > deadline:
        return None, "the time was up"
    try:
        random = search(
            found.problem,
            evaluate,
            algorithm="random",
            budget=len(found.evaluations),
            seed=seed,
            predictors={},  # it is compared by what was measured
            deadline=deadline,
            origin="baseline",
        )
    except LimitsNotMetError:
        return None, "random search found no subnet that meets the limits"
    return random, ""


class _Results:
    """What a search found, to be seen from each of its devices.

    Args:
        trained: the run.
        device: the first device, which is measured.
        others: further devices.
        found: the search.
        progress: hears about measurements and evaluations.
    """

    def __init__(
        self,
        trained: TrainedRun,
        device: Device,
        others: Sequence[Device],
        found: SearchResult,
        measured: MeasuredLatencies,
        progress: Progress,
    ) -> None:
        self.trained, self.devices, self.found, self.progress = trained, [device, *others], found, progress
        self._measured = {device.profile.name: measured}
        self._measured |= {other.profile.name: latencies_on(other, trained) for other in others}
        self._deployed = {
            d.profile.name: accuracies_on(d, trained, found.problem.metrics, progress) for d in self.devices
        }

    def outcome(
        self,
        random: SearchResult | None,
        no_baseline: str,
        predictor: PredictorRecord | None,
        connection: Connection | None,
    ) -> tuple[SearchOutcome, NotMeasuredError | None]:
        """All that is to be written, and where a person has to carry a bundle, what to tell them.

        Args:
            random: the random baseline.
            no_baseline: why there is none.
            predictor: how good the predictor is.
            connection: reaches the first device; None: its front stays that of predicted latencies.
        """
        results = [self.found, *([random] if random else [])]
        known = _known(*results)
        fits = _additive_fits(self.found, known, self.trained.task.shown)
        own, pending = self._seen_on(self.devices[0], results, fits, connection)
        outcome = SearchOutcome(
            own,
            tuple(self._seen_on(other, results, fits, None)[0] for other in self.devices[1:]),
            no_baseline,
            predictor,
            StoredSurrogate(
                n_train=len(known),
                metrics={name: StoredMetric.of(fit.table, fit.tau, fit.rmse) for name, fit in fits.items()},
            ),
            _minimax_regret(self.found, self.devices) if len(self.devices) > 1 else None,
        )
        return outcome, pending

    def _seen_on(
        self,
        device: Device,
        results: Sequence[SearchResult],
        fits: Mapping[str, AdditiveFit],
        connection: Connection | None,
    ) -> tuple[DeviceOutcome, NotMeasuredError | None]:
        """What was found for one device, measured there where there is a connection."""
        space, name = self.trained.space, device.profile.name
        problem = problem_on(self.found.problem, device)
        seen = [result.seen_as(problem) for result in results]
        validated = validate(
            seen, device, self.trained, self._measured[name], self._deployed[name], connection, self.progress
        )
        front, *random_front = validated.fronts
        genomes = space.encode(seen[0].front["arch"])
        latency_ms = front["latency_ms"].to_numpy(dtype=np.float64)
        outcome = DeviceOutcome(
            device=device,
            result=seen[0],
            random=seen[1] if len(seen) > 1 else None,
            evaluations=validated.evaluations,
            front=front,
            baseline=random_front[0] if random_front else None,
            waiting=validated.waiting,
            warnings=profile_warnings(device.profile) + order_warnings(device.profile, latency_ms),
            certificate=certify(problem, fits, genomes, seen[0].reference) if fits else None,
        )
        return outcome, validated.pending


def _known(*results: SearchResult) -> pd.DataFrame:
    """Every subnet that the searches evaluated, once."""
    return pd.concat([result.evaluations for result in results]).drop_duplicates("arch_id")


def _additive_fits(found: SearchResult, known: pd.DataFrame, shown: Sequence[str]) -> dict[str, AdditiveFit]:
    """Each metric as a sum over slots, fitted to all known evaluations; none where these are too few.

    The metrics are those `shown` by the task and those of the problem.
    """
    if len(known) < MIN_SAMPLES:
        return {}
    space = found.problem.space
    genomes = space.encode(known["arch"])
    names = dict.fromkeys((*shown, *found.problem.metrics))
    return {name: fit_additive(space, genomes, known[name].to_numpy(dtype=np.float64)) for name in names}


def _minimax_regret(result: SearchResult, devices: Sequence[Device]) -> MinimaxRegret:
    """The best single subnet for all devices among those that keep every limit."""
    rows = np.flatnonzero(result.evaluations["feasible"])
    minimised = {
        device.profile.name: result.evaluated(problem_on(result.problem, device)).minimised[rows]
        for device in devices
    }
    best = minimax_regret(minimised)
    return replace(best, row=int(rows[best.row]))


def _predictors(space: Space, names: Sequence[str], seed: int) -> dict[str, PredictorFactory]:
    """The candidates by name.

    Raises:
        ValueError: unknown name, or a user's object that makes no `Regressor`.
    """
    found = {name: resolve("predictor", name, PREDICTORS, allow_import=True) for name in names}
    if space.n_subnets < MIN_SAMPLES:  # nothing will be predicted
        return found
    features = Features(space)
    for name, factory in found.items():
        with errors_of(f"the predictor {name!r}"):
            made = factory(features, seed)
        check("predictor", name, made, Regressor)
    return found
