"""The interface of search algorithms and their base class."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np

from nas.search.algorithms.history import Deduplicator, History
from nas.search.algorithms.prediction_log import PredictionLog
from nas.search.problem.objectives import Metrics
from nas.search.problem.problem import Problem
from predictors import CANDIDATES, PredictorFactory
from predictors.selection import MIN_SAMPLES
from search_spaces import Genomes, Space

START = 50
"""Subnets evaluated before the first fit, at most a third of the budget."""


@runtime_checkable
class Optimizer(Protocol):
    """A search algorithm in progress."""

    def ask(self, n: int) -> Genomes:
        """Canonical genomes to evaluate, shape (≤ n, n_genes), none of which was returned by
        `ask` or passed to `tell` before.

        A result without rows means that the algorithm is done.
        """

    def tell(self, genomes: Genomes, metrics: Metrics) -> None:
        """Record the measured metrics of canonical genomes that `ask` returned, or that were known before.

        The first call comes before any `ask`. Its first two rows are the smallest and the largest subnet.
        """


@dataclass(frozen=True)
class SearchTask:
    """The arguments of a search algorithm."""

    problem: Problem
    """Turns metrics into objectives (`as_minimization`) and violations of the limits (`violations`)."""
    budget: int
    """Real evaluations in all."""
    rng: np.random.Generator
    predictors: Mapping[str, PredictorFactory] = field(default_factory=lambda: CANDIDATES)
    """Candidates for the models of the metrics."""
    predictions: PredictionLog = field(default_factory=PredictionLog)
    """Records the predictions of the models that propose subnets."""


OptimizerFactory = Callable[[SearchTask], Optimizer]
"""Makes an optimizer; a user's own algorithm (`module:object`) is such a function or class."""


class SearchAlgorithm(ABC):
    """An `Optimizer` that records all evaluations and never proposes a subnet twice.

    A subclass implements `_propose`.
    """

    def __init__(self, task: SearchTask) -> None:
        self._problem, self._space, self._rng = task.problem, task.problem.space, task.rng
        self._history = History(task.problem)
        self._seen = Deduplicator(task.problem.space)

    def ask(self, n: int) -> Genomes:
        """See `Optimizer`."""
        return self._seen.take(self._propose(n))

    def tell(self, genomes: Genomes, metrics: Metrics) -> None:
        """See `Optimizer`."""
        self._seen.take(genomes)
        self._history.add(genomes, metrics)

    @abstractmethod
    def _propose(self, n: int) -> Genomes:
        """At most `n` genomes, raw or canonical; those that were seen before are dropped."""


def n_start(budget: int) -> int:
    """Number of subnets that are evaluated before the first fit."""
    return max(MIN_SAMPLES, min(START, budget // 3))


def size_stratified_sample(space: Space, rng: np.random.Generator, n: int) -> Genomes:
    """`n` raw genomes of evenly distributed sizes, shape (n, n_genes).

    The mean of a genome's genes is uniform. Genomes with uniform genes would all be of medium size.
    """
    level = rng.random((n, 1))
    return rng.binomial(space.n_options - 1, level, size=(n, len(space.genes)))
