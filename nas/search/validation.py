"""The front of a search as it is on the device: measured, within the limits, and replaced where it is not.

What is believed about a subnet's latency is what was measured or, before that, the prediction, corrected by
the median of measured / predicted so far. The front by belief is measured; what that shows to miss a limit or
to be dominated leaves it, others take the place and are measured too, until nothing new comes or the rounds
are over.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

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


@dataclass(frozen=True)
class Validation:
    """The evaluations of a search beside the device.

    Args:
        result: of the search.
        predict: latency in ms of each genome, shape (n,).
        noise_floor: how much measuring again differs, a fraction. A subnet keeps a limit on latency when it
            does so with twice that in hand, so that measuring again agrees.
    """

    result: SearchResult
    predict: Callable[[Genomes], Vector]
    noise_floor: float

    def missing(self, known: Latencies) -> list[Arch]:
        """Subnets of the front by belief that are not measured yet."""
        front = self.front(known)
        return front["arch"][front["measured_latency_ms"].isna()].tolist()

    def archs(self, known: Latencies) -> list[Arch]:
        """Subnets of the front by belief."""
        return self.front(known)["arch"].tolist()

    def front(self, known: Latencies, *, measured_only: bool = False) -> pd.DataFrame:
        """The non-dominated subnets by belief, those that keep the limits alone if there are any.

        Args:
            known: what was measured.
            measured_only: leave out what was not.

        Returns:
            rows of `SearchResult.evaluations` with the predicted `latency_ms`, `measured_latency_ms` (NaN:
            not measured) and `keeps_limits`, sorted by the last objective.
        """
        frame, believed = self._beside(known)
        wanted, keeps = np.full(len(frame), True), frame["keeps_limits"].to_numpy(dtype=bool)
        if measured_only:
            wanted = frame["measured_latency_ms"].notna().to_numpy()
        if (wanted & keeps).any():
            wanted = wanted & keeps
        frame, believed = frame[wanted], believed[wanted]
        problem, genomes, metrics = self._problem(frame, believed)
        excess = np.maximum(problem.violations(genomes, metrics), 0).sum(axis=1)  # all 0, or all above
        points = np.column_stack([problem.as_minimization(genomes, metrics), excess])
        front = frame.iloc[nondominated(points)]
        last = self.result.problem.objectives[-1].name
        return front.sort_values(last, kind="stable", ignore_index=True)

    def marked(self, known: Latencies) -> pd.DataFrame:
        """All evaluations with the three columns of `front`."""
        return self._beside(known)[0]

    def _beside(self, known: Latencies) -> tuple[pd.DataFrame, Vector]:
        """All evaluations with the three columns, and their latencies by belief."""
        frame = self.result.evaluations.copy()
        predicted = self.predict(self._genomes(frame))
        measured = frame["arch_id"].map(known).to_numpy(dtype=np.float64)
        told = ~np.isnan(measured)
        correction = np.median(measured[told] / predicted[told]) if told.any() else 1.0
        believed = np.where(told, measured, predicted * correction)
        problem, genomes, metrics = self._problem(frame, believed)
        frame["latency_ms"], frame["measured_latency_ms"] = predicted, measured
        frame["keeps_limits"] = np.all(problem.violations(genomes, metrics) <= 0, axis=1)
        return frame, believed

    def _problem(
        self, frame: pd.DataFrame, latency_ms: Vector
    ) -> tuple[Problem, Genomes, dict[str, NDArray[np.float64]]]:
        """The problem for the very rows of `frame`, whose latencies are given."""
        problem, margin = self.result.problem, 1 + 2 * self.noise_floor
        limits = [
            replace(limit, objective=_told(limit.objective, latency_ms * _safe(limit.sense, margin)))
            for limit in problem.constraints
        ]
        objectives = [_told(objective, latency_ms) for objective in problem.objectives]
        metrics = {name: frame[name].to_numpy(dtype=np.float64) for name in problem.metrics}
        return Problem(problem.space, objectives, limits), self._genomes(frame), metrics

    def _genomes(self, frame: pd.DataFrame) -> Genomes:
        return self.result.problem.space.encode(frame["arch"])


def _safe(sense: str, margin: float) -> float:
    return margin if sense == "max" else 1 / margin


def _told(objective: Objective, latency_ms: Vector) -> Objective:
    if not is_latency(objective.name):
        return objective
    return CostObjective(objective.name, lambda genomes: latency_ms, objective.unit)


def measure_fronts(
    fronts: Sequence[Validation], measured: MeasuredLatencies, connection: Connection, progress: Progress
) -> NotMeasuredError | None:
    """Measure the fronts, and what replaces their members, in a bounded number of rounds.

    Args:
        fronts: of several searches, measured together.
        measured: what is measured already, and what gets added.
        connection: reaches the device.
        progress: hears about each subnet.

    Returns:
        where a person has to carry the next round, what that person is told.

    Raises:
        ValueError: the device cannot be reached, is another one, or computes wrongly.
    """
    if isinstance(connection, OfflineBundle) and connection.results:
        return None  # what came back is kept; the next round is the next bundle
    for _ in range(MAX_ROUNDS):
        missing = {arch.id: arch for front in fronts for arch in front.missing(measured.ms)}
        if not missing:
            break
        try:
            measured.measure(connection, list(missing.values()), progress)
        except NotMeasuredError as told:
            return told
    return None
