"""LINAS (Cummings et al. 2022, "A hardware-aware framework for accelerating neural architecture search").

The best of the older methods, as a baseline: each round fits a linear predictor again, runs NSGA-II on its
mean from a fresh start, and evaluates the last population.
"""

from __future__ import annotations

from dataclasses import replace

from nas.search.algorithms.base import SearchAlgorithm, SearchTask
from nas.search.algorithms.evolution import evolve
from nas.search.algorithms.random_search import RandomSearch
from nas.search.algorithms.surrogate import SurrogateFitter
from nas.search.problem.objectives import Metrics
from predictors import PREDICTORS
from search_spaces import Genomes

POPULATION = 50
"""Subnets of a round and of the inner search."""
INNER_EVALUATIONS = 20_000
"""Subnets that the inner search scores; both as published for MobileNetV3."""
MIN_FIT = 10
"""Evaluations before the first fit where the budget is tiny."""


class Linas(SearchAlgorithm):
    """Random subnets first; then the population that the inner search ends with.

    Unlike the published code it passes over what is evaluated already, and computes what can be computed.
    """

    def __init__(self, task: SearchTask) -> None:
        super().__init__(task)
        self._random = RandomSearch(task)
        self._first = max(MIN_FIT, min(POPULATION, task.budget // 3))
        self._fit = SurrogateFitter(replace(task, predictors={"ridge": PREDICTORS["ridge"]}))
        self._waiting: Genomes = self._history.genomes

    def _propose(self, n: int) -> Genomes:
        missing = self._first - len(self._history)
        if missing > 0:
            return self._random.ask(min(n, missing))
        if len(self._waiting) == 0:
            self._waiting = self._seen.filter(self._inner_search())
        batch, self._waiting = self._waiting[:n], self._waiting[n:]
        return batch if len(batch) else self._random.ask(n)

    def tell(self, genomes: Genomes, metrics: Metrics) -> None:
        """See `Optimizer`."""
        super().tell(genomes, metrics)
        self._random.tell(genomes, metrics)

    def _inner_search(self) -> Genomes:
        """The last population of NSGA-II on the predictor, raw."""
        surrogate = self._fit(self._history)
        start = self._space.sample(self._rng, POPULATION)
        found = evolve(self._space, surrogate.mean, start, self._rng, INNER_EVALUATIONS, POPULATION)
        return found.population
