"""NSGA-II on real evaluations: what a search costs without a predictor."""

from __future__ import annotations

from nas.search.algorithms.base import Evaluated, Task, Unseen
from nas.search.algorithms.evolution import Evolution
from nas.search.problem.objectives import Metrics
from search_spaces import Genomes

POPULATION = 50


class RealEvolution:
    """Each generation is evaluated; subnets known from an earlier one are not evaluated again."""

    def __init__(self, task: Task) -> None:
        self._problem, self._space = task.problem, task.problem.space
        self._evolution = Evolution(
            self._space,
            self._space.sample(task.rng, POPULATION),
            len(task.problem.objectives),
            len(task.problem.constraints),
            task.rng,
            POPULATION,
        )
        self._evaluated = Evaluated(task.problem)
        self._unseen = Unseen(self._space)
        self._generation = self._space.canonical(self._evolution.ask())

    def ask(self, n: int) -> Genomes:
        """See `Optimizer`."""
        while len(self._unseen.filter(self._generation)) == 0 and len(self._generation):
            self._next_generation()
        return self._unseen.take(self._unseen.filter(self._generation)[:n])

    def tell(self, genomes: Genomes, metrics: Metrics) -> None:
        """See `Optimizer`."""
        self._unseen.take(genomes)
        self._evaluated.add(genomes, metrics)

    def _next_generation(self) -> None:
        known = {row.tobytes(): i for i, row in enumerate(self._evaluated.genomes)}
        rows = [known[row.tobytes()] for row in self._generation]
        metrics = {name: values[rows] for name, values in self._evaluated.metrics.items()}
        self._evolution.tell(
            self._problem.minimised(self._generation, metrics),
            self._problem.violations(self._generation, metrics),
        )
        self._generation = self._space.canonical(self._evolution.ask())
