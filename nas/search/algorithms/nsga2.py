"""NSGA-II on real evaluations, without a predictor."""

from __future__ import annotations

from nas.search.algorithms.base import SearchAlgorithm, SearchTask
from nas.search.algorithms.evolution import Evolution
from search_spaces import Genomes

POPULATION = 50


class NSGA2Search(SearchAlgorithm):
    """Each generation is evaluated; subnets known from an earlier one are not evaluated again."""

    def __init__(self, task: SearchTask) -> None:
        super().__init__(task)
        self._evolution = Evolution(
            self._space,
            self._space.sample(task.rng, POPULATION),
            len(task.problem.objectives),
            len(task.problem.constraints),
            task.rng,
            POPULATION,
        )
        self._generation = self._space.canonical(self._evolution.ask())

    def _propose(self, n: int) -> Genomes:
        while len(self._seen.filter(self._generation)) == 0 and len(self._generation):
            self._next_generation()
        return self._seen.filter(self._generation)[:n]

    def _next_generation(self) -> None:
        known = {row.tobytes(): i for i, row in enumerate(self._history.genomes)}
        rows = [known[row.tobytes()] for row in self._generation]
        metrics = {name: values[rows] for name, values in self._history.metrics.items()}
        self._evolution.tell(
            self._problem.as_minimization(self._generation, metrics),
            self._problem.violations(self._generation, metrics),
        )
        self._generation = self._space.canonical(self._evolution.ask())
