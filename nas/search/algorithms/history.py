"""The evaluations of a search so far."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nas.search.problem.hypervolume import nondominated, reference_point
from nas.search.problem.objectives import Metrics
from nas.search.problem.problem import Problem
from search_spaces import Genomes, Space


class Deduplicator:
    """Remembers the subnets of a space that were seen."""

    def __init__(self, space: Space) -> None:
        self._space = space
        self._seen: set[bytes] = set()

    def filter(self, genomes: Genomes) -> Genomes:
        """The canonical forms of those `genomes` that were not seen, each once."""
        rows = self._space.canonical(genomes)
        new = {row.tobytes(): row for row in rows if row.tobytes() not in self._seen}
        return np.array(list(new.values()), dtype=np.int64).reshape(len(new), rows.shape[1])

    def take(self, genomes: Genomes) -> Genomes:
        """As `filter`, and mark them as seen."""
        new = self.filter(genomes)
        self._seen.update(row.tobytes() for row in new)
        return new


class History:
    """The subnets that were evaluated, in order, and their metrics."""

    def __init__(self, problem: Problem) -> None:
        self._problem = problem
        self.genomes: Genomes = np.zeros((0, len(problem.space.genes)), dtype=np.int64)
        self.metrics: Metrics = {name: np.zeros(0) for name in problem.metrics}

    def __len__(self) -> int:
        return len(self.genomes)

    def add(self, genomes: Genomes, metrics: Metrics) -> None:
        """Append subnets and their metrics."""
        self.genomes = np.concatenate([self.genomes, genomes])
        self.metrics = {
            name: np.concatenate([known, np.asarray(metrics[name], dtype=np.float64)])
            for name, known in self.metrics.items()
        }

    @property
    def minimised(self) -> NDArray[np.float64]:
        """Minimised objectives of all subnets, shape (n, n_objectives)."""
        return self._problem.as_minimization(self.genomes, self.metrics)

    @property
    def front(self) -> NDArray[np.intp]:
        """Indices of the non-dominated subnets among those that satisfy the limits."""
        feasible = np.flatnonzero(self.feasible)
        return feasible[nondominated(self.minimised[feasible])]

    @property
    def reference(self) -> NDArray[np.float64]:
        """Reference point of the hypervolume, from the smallest and the largest subnet, which come first."""
        corners = self.minimised[:2]
        return reference_point(corners[0], corners[-1])  # a space of one subnet has one corner

    @property
    def excess(self) -> NDArray[np.float64]:
        """See `Problem.excess`, shape (n,)."""
        return self._problem.excess(self.genomes, self.metrics)

    @property
    def feasible(self) -> NDArray[np.bool_]:
        """Which subnets satisfy all limits, shape (n,)."""
        return np.asarray(self.excess == 0)
