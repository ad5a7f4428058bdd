"""What a search algorithm is: it proposes subnets and learns how they did."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from nas.search.problem.hypervolume import reference_point
from nas.search.problem.objectives import Metrics, Problem
from predictors import CANDIDATES, PredictorFactory
from search_spaces import Genomes, Space


@runtime_checkable
class Optimizer(Protocol):
    """A search algorithm in progress."""

    def ask(self, n: int) -> Genomes:
        """Canonical genomes to evaluate, shape (≤ n, n_genes), none of them ever returned or told before.

        No rows: the algorithm is done.
        """

    def tell(self, genomes: Genomes, metrics: Metrics) -> None:
        """Learn the measured metrics of canonical genomes that `ask` returned, or that were known before.

        The smallest and the largest subnet, in this order, are told first, before anything is asked.
        """


@dataclass(frozen=True)
class Task:
    """What an optimizer is made from."""

    problem: Problem
    """Turns metrics into objectives (`minimised`) and violations of the limits (`violations`)."""
    budget: int
    """Real evaluations that it will get in all."""
    rng: np.random.Generator
    predictors: Mapping[str, PredictorFactory] = field(default_factory=lambda: CANDIDATES)
    """Candidates for the models of the metrics."""


OptimizerFactory = Callable[[Task], Optimizer]
"""Makes an optimizer; a user's own algorithm (`module:object`) is such a function or class."""


def spread_of_sizes(space: Space, rng: np.random.Generator, n: int) -> Genomes:
    """`n` raw genomes whose mean gene is uniform: plain random ones are all of middle size."""
    level = rng.random((n, 1))
    return rng.binomial(space.n_options - 1, level, size=(n, len(space.genes)))


class Unseen:
    """Lets every subnet of a space pass once."""

    def __init__(self, space: Space) -> None:
        self._space = space
        self._seen: set[bytes] = set()

    def filter(self, genomes: Genomes) -> Genomes:
        """The canonical forms of those `genomes` that never passed, each once; they have not passed yet."""
        rows = self._space.canonical(genomes)
        new = {row.tobytes(): row for row in rows if row.tobytes() not in self._seen}
        return np.array(list(new.values()), dtype=np.int64).reshape(len(new), rows.shape[1])

    def take(self, genomes: Genomes) -> Genomes:
        """As `filter`, and they have passed now."""
        new = self.filter(genomes)
        self._seen.update(row.tobytes() for row in new)
        return new


class Evaluated:
    """The subnets that an optimizer was told about."""

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
        """Objectives of all subnets, shape (n, n_objectives)."""
        return self._problem.minimised(self.genomes, self.metrics)

    @property
    def reference(self) -> NDArray[np.float64]:
        """Reference point of the hypervolume, from the smallest and the largest subnet, which come first."""
        corners = self.minimised[:2]
        return reference_point(corners[0], corners[-1])  # a space of one subnet has one corner

    @property
    def excess(self) -> NDArray[np.float64]:
        """By how much each subnet misses the limits in all, 0 where it keeps them, shape (n,)."""
        violations = self._problem.violations(self.genomes, self.metrics)
        return np.asarray(np.maximum(violations, 0).sum(axis=1))

    @property
    def feasible(self) -> NDArray[np.bool_]:
        """Which subnets keep all limits, shape (n,)."""
        return np.asarray(self.excess == 0)
