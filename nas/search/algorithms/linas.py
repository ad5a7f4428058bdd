"""LINAS (Cummings et al. 2022, "A hardware-aware framework for accelerating neural architecture search").

LINAS serves as a baseline. Each round fits a linear predictor again, runs NSGA-II on its mean from a fresh
start, and evaluates the last population.
"""

from __future__ import annotations

from dataclasses import replace

from nas.search.algorithms.base import SearchAlgorithm, SearchTask
from nas.search.algorithms.evolution import evolve
from nas.search.algorithms.random_search import random_unseen
from nas.search.algorithms.surrogate import SurrogateFitter
from predictors import PREDICTORS
from search_spaces import Genomes

POPULATION = 50
"""Subnets of a round, and population size of the inner search."""
INNER_EVALUATIONS = 20_000
"""Subnets that the inner search scores; this and `POPULATION` are as published for MobileNetV3."""
MIN_FIT = 10
"""Smallest number of evaluations before the first fit, for tiny budgets."""


class Linas(SearchAlgorithm):
    """Evaluates random subnets first, then the last population of each inner search.

    Unlike the published code, it skips subnets that are already evaluated, and computes costs instead of
    predicting them.
    """

    def __init__(self, task: SearchTask) -> None:
        super().__init__(task)
        self._first = max(MIN_FIT, min(POPULATION, task.budget // 3))
        self._fit = SurrogateFitter(replace(task, predictors={"ridge": PREDICTORS["ridge"]}))
        self._waiting: Genomes = self._history.genomes

    def _propose(self, n: int) -> Genomes:
        missing = self._first - len(self._history)
        if missing > 0:
            return random_unseen(self._space, self._rng, self._seen, min(n, missing))
        if len(self._waiting) == 0:
            self._waiting = self._seen.filter(self._inner_search())
        batch, self._waiting = self._waiting[:n], self._waiting[n:]
        return batch if len(batch) else random_unseen(self._space, self._rng, self._seen, n)

    def _inner_search(self) -> Genomes:
        """The last population of NSGA-II on the predictor, raw."""
        surrogate = self._fit(self._history)
        start = self._space.sample(self._rng, POPULATION)
        found = evolve(self._space, surrogate.mean, start, self._rng, INNER_EVALUATIONS, POPULATION)
        return found.population
