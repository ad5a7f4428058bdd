"""The outcome of a search on each of its devices: measured fronts, certificate and surrogate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from hw_profiles.connections.base import Connection
from hw_profiles.device import Device
from hw_profiles.profile_warnings import order_warnings, profile_warnings
from nas.devices.measured_latencies import MeasuredLatencies
from nas.evaluation.trained_run import TrainedRun
from nas.progress import Progress
from nas.search.certificate import certify
from nas.search.cost import SearchCost
from nas.search.minimax_regret import MinimaxRegret, minimax_regret
from nas.search.problem.problem import Problem
from nas.search.search_outcome import DeviceOutcome, SearchOutcome
from nas.search.search_problem import problem_on
from nas.search.search_result import SearchResult
from nas.search.steps import Findings
from nas.search.stored_surrogate import StoredMetric, StoredSurrogate
from nas.search.validated_search import accuracies_on, latencies_on, validate
from predictors import AdditiveFit, fit_additive
from predictors.selection import MIN_SAMPLES


class OutcomeBuilder:
    """Builds the outcome of a search for each of its devices; measured latencies are reused between calls.

    Args:
        trained: the run.
        devices: the first one is measured; the others are evaluated by their latency tables.
        problem: the problem of the search.
        measured: measured latencies of the first device.
        cost: the estimated cost of the search.
        progress: called after each measurement and evaluation.
    """

    def __init__(
        self,
        trained: TrainedRun,
        devices: Sequence[Device],
        problem: Problem,
        measured: MeasuredLatencies,
        cost: SearchCost,
        progress: Progress,
    ) -> None:
        self._trained, self._devices, self._cost, self._progress = trained, devices, cost, progress
        self._measured = {
            device.profile.name: latencies_on(device, trained, problem.space) for device in devices[1:]
        }
        self._measured[devices[0].profile.name] = measured
        self._deployed = {
            device.profile.name: accuracies_on(device, trained, problem, progress) for device in devices
        }

    def outcome(self, findings: Findings, connection: Connection | None) -> SearchOutcome:
        """All results of a search.

        Args:
            findings: the results of the steps of the search.
            connection: to the first device; None: its front has predicted latencies.
        """
        results = [findings.result, *([findings.random] if findings.random else [])]
        known = pd.concat([result.evaluations for result in results]).drop_duplicates("arch_id")
        fits = _additive_fits(findings.result.problem, known, self._trained.task.shown)
        own, *others = (
            self._on(device, results, fits, connection if device is self._devices[0] else None)
            for device in self._devices
        )
        metrics = {name: StoredMetric.of(fit.table, fit.tau, fit.rmse) for name, fit in fits.items()}
        return SearchOutcome(
            own,
            tuple(others),
            findings.no_baseline,
            findings.predictor,
            self._cost,
            StoredSurrogate(n_train=len(known), metrics=metrics),
            _minimax_regret(findings.result, self._devices) if others else None,
        )

    def _on(
        self,
        device: Device,
        results: Sequence[SearchResult],
        fits: Mapping[str, AdditiveFit],
        connection: Connection | None,
    ) -> DeviceOutcome:
        """The results for one device, measured there if there is a connection."""
        name, problem = device.profile.name, problem_on(results[0].problem, device)
        seen = [result.seen_as(problem) for result in results]
        measured, deployed = self._measured[name], self._deployed[name]
        validated = validate(seen, device, self._trained, measured, deployed, connection, self._progress)
        genomes = problem.space.encode(seen[0].front["arch"])
        latency_ms = validated.fronts[0]["latency_ms"].to_numpy(dtype=np.float64)
        return DeviceOutcome(
            device=device,
            result=seen[0],
            random=seen[1] if len(seen) > 1 else None,
            validated=validated,
            warnings=profile_warnings(device.profile) + order_warnings(device.profile, latency_ms),
            certificate=certify(problem, fits, genomes, seen[0].reference) if fits else None,
        )


def _additive_fits(problem: Problem, known: pd.DataFrame, shown: Sequence[str]) -> dict[str, AdditiveFit]:
    """Each metric as a sum over slots, fitted to all known evaluations; none if these are too few.

    The metrics are the metrics `shown` by the task and the metrics of the problem.
    """
    if len(known) < MIN_SAMPLES:
        return {}
    genomes = problem.space.encode(known["arch"])
    names = dict.fromkeys((*shown, *problem.metrics))
    return {
        name: fit_additive(problem.space, genomes, known[name].to_numpy(dtype=np.float64)) for name in names
    }


def _minimax_regret(result: SearchResult, devices: Sequence[Device]) -> MinimaxRegret:
    """The best single subnet for all devices among those that satisfy every limit."""
    rows = np.flatnonzero(result.evaluations["feasible"])
    minimised = {
        device.profile.name: result.history(problem_on(result.problem, device)).minimised[rows]
        for device in devices
    }
    best = minimax_regret(minimised)
    return replace(best, row=int(rows[best.row]))
