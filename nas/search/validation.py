"""The front of a search as measured on the device.

The expected latency of a subnet is its measured latency. Before the measurement, it is the predicted latency
times the median of measured / predicted so far. The subnets of the front by expected latency are measured.
Subnets that then violate a limit or are dominated leave the front, and others replace them. This is repeated
until the front does not change, or for a bounded number of rounds.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd

from hw_profiles.connections.base import Connection, NotMeasuredError
from hw_profiles.connections.offline_bundle import OfflineBundle
from nas.devices.measured_latencies import MeasuredLatencies
from nas.progress import Progress
from nas.search.problem.hypervolume import nondominated
from nas.search.problem.objectives import CostObjective, Objective, Vector, is_latency
from nas.search.problem.problem import Problem
from nas.search.search_result import SearchResult
from search_spaces import Arch, Genomes

MAX_ROUNDS = 5
Latencies = Mapping[str, float]
"""Measured latencies in ms, by arch id."""

_log = logging.getLogger("nas")


@dataclass(frozen=True)
class Validation:
    """The evaluations of a search and the latencies on the device.

    Args:
        result: the result of the search.
        predict: latency in ms of each genome, shape (n,).
        noise_floor: relative difference between two measurements. A latency limit is enforced with a margin
            of twice this, so that a repeated measurement still satisfies it.
    """

    result: SearchResult
    predict: Callable[[Genomes], Vector]
    noise_floor: float

    def missing(self, known: Latencies) -> list[Arch]:
        """Subnets of the front of expected latencies that are not measured yet."""
        front = self.front(known)
        return front["arch"][front["measured_latency_ms"].isna()].tolist()

    def archs(self, known: Latencies) -> list[Arch]:
        """Subnets of the front of expected latencies."""
        return self.front(known)["arch"].tolist()

    def front(self, known: Latencies, *, measured_only: bool = False) -> pd.DataFrame:
        """The non-dominated subnets by expected latency, among those that satisfy the limits if there are
        any.

        Args:
            known: measured latencies.
            measured_only: leave out subnets that were not measured.

        Returns:
            rows of `SearchResult.evaluations` with the predicted `latency_ms`, `measured_latency_ms` (NaN:
            not measured) and `keeps_limits`, sorted by the last objective.
        """
        frame, expected = self._with_latencies(known)
        selected, keeps = np.full(len(frame), True), frame["keeps_limits"].to_numpy(dtype=bool)
        if measured_only:
            selected = frame["measured_latency_ms"].notna().to_numpy()
        if (selected & keeps).any():
            selected = selected & keeps
        frame, expected = frame[selected], expected[selected]
        genomes, metrics = self._genomes[selected], self.result.problem.metrics_in(frame)
        problem = self._problem(expected)
        excess = problem.excess(genomes, metrics)  # all 0, or all above 0
        points = np.column_stack([problem.as_minimization(genomes, metrics), excess])
        front = frame.iloc[nondominated(points)]
        last = self.result.problem.objectives[-1].name
        return front.sort_values(last, kind="stable", ignore_index=True)

    def marked(self, known: Latencies) -> pd.DataFrame:
        """All evaluations with the three columns of `front`."""
        return self._with_latencies(known)[0]

    def _with_latencies(self, known: Latencies) -> tuple[pd.DataFrame, Vector]:
        """All evaluations with the three columns, and their expected latencies."""
        frame = self.result.evaluations.copy()
        predicted = self._predicted
        measured = frame["arch_id"].map(known).to_numpy(dtype=np.float64)
        is_measured = ~np.isnan(measured)
        ratios = measured[is_measured] / predicted[is_measured]
        correction = np.median(ratios) if len(ratios) else 1.0
        expected = np.where(is_measured, measured, predicted * correction)
        violations = self._problem(expected).violations(self._genomes, self.result.problem.metrics_in(frame))
        frame["latency_ms"], frame["measured_latency_ms"] = predicted, measured
        frame["keeps_limits"] = np.all(violations <= 0, axis=1)
        return frame, expected

    def _problem(self, latency_ms: Vector) -> Problem:
        """The problem with fixed latencies, for exactly the subnets to which `latency_ms` (n,) belongs."""
        problem, margin = self.result.problem, 1 + 2 * self.noise_floor
        limits = [
            replace(limit, objective=_with_values(limit.objective, latency_ms * _safe(limit.sense, margin)))
            for limit in problem.constraints
        ]
        objectives = [_with_values(objective, latency_ms) for objective in problem.objectives]
        return Problem(problem.space, objectives, limits)

    @cached_property
    def _genomes(self) -> Genomes:
        """All evaluated subnets."""
        return self.result.problem.space.encode(self.result.evaluations["arch"])

    @cached_property
    def _predicted(self) -> Vector:
        """Predicted latencies of `_genomes` in ms, shape (n,)."""
        return self.predict(self._genomes)


def _safe(sense: str, margin: float) -> float:
    return margin if sense == "max" else 1 / margin


def _with_values(objective: Objective, latency_ms: Vector) -> Objective:
    if not is_latency(objective.name):
        return objective
    return CostObjective(objective.name, lambda genomes: latency_ms, objective.unit)


def measure_fronts(
    fronts: Sequence[Validation], measured: MeasuredLatencies, connection: Connection, progress: Progress
) -> NotMeasuredError | None:
    """Measure the fronts and the subnets that replace their members, in at most `MAX_ROUNDS` rounds.

    Args:
        fronts: the fronts of several searches, measured together.
        measured: the latencies so far; new ones are added.
        connection: connection to the device.
        progress: called after each subnet.

    Returns:
        the error with instructions, if the next round needs an offline bundle.

    Raises:
        ValueError: the device cannot be reached, is not the device of the profile, or computes wrong outputs.
    """
    if isinstance(connection, OfflineBundle) and connection.results:
        return None  # its results are used; the next round needs the next bundle
    for _ in range(MAX_ROUNDS):
        missing = {arch.id: arch for front in fronts for arch in front.missing(measured.ms)}
        if not missing:
            if isinstance(connection, OfflineBundle) and connection.out:
                _log.warning("all subnets of the front are measured already: no bundle was written")
            break
        try:
            measured.measure(connection, list(missing.values()), progress)
        except NotMeasuredError as error:
            return error
    return None
