"""Regularised evolution (Real et al. 2019, "Regularized evolution for image classifier architecture search").

The oldest subnet leaves the population, not the worst. With several objectives a tournament is won by
non-dominated rank first and crowding distance second, as in NSGA-II (Deb et al. 2002).
"""

from __future__ import annotations

from collections import deque

import numpy as np

from nas.search.algorithms.base import SearchAlgorithm, SearchTask
from nas.search.algorithms.history import Deduplicator
from nas.search.algorithms.ranking import crowded_order
from nas.search.problem.objectives import Metrics
from search_spaces import Genomes

POPULATION = 100
TOURNAMENT = 25
"""This and `POPULATION` are as in §3.3 of the paper. With a small budget, both shrink in proportion."""
TRIES = 100
"""Largest number of tournaments and mutations per new subnet of a batch."""


class RegularizedEvolution(SearchAlgorithm):
    """Evaluates random subnets first. Each further subnet is the winner of a tournament with one gene
    changed."""

    def __init__(self, task: SearchTask) -> None:
        super().__init__(task)
        size = min(POPULATION, max(2, task.budget // 4))
        self._tournament = max(2, round(size * TOURNAMENT / POPULATION))
        self._start = self._space.sample(self._rng, size)
        self._alive: deque[int] = deque(maxlen=size)

    def _propose(self, n: int) -> Genomes:
        batch = self._seen.filter(self._start)[:n]
        return batch if len(batch) else self._children(n)

    def tell(self, genomes: Genomes, metrics: Metrics) -> None:
        """See `Optimizer`."""
        self._alive.extend(range(len(self._history), len(self._history) + len(genomes)))
        super().tell(genomes, metrics)

    def _children(self, n: int) -> Genomes:
        """Up to `n` new subnets, whose parents are in the current population."""
        alive = np.array(self._alive)
        genomes = self._history.genomes[alive]
        place = crowded_order(self._history, alive)
        children = Deduplicator(self._space)
        found: Genomes = genomes[:0]
        for _ in range(TRIES * n):
            if len(found) == n:
                break
            competitors = self._rng.choice(len(alive), size=self._tournament, replace=False)
            winner = competitors[place[competitors].argmin()]
            child = self._seen.filter(self._mutated(genomes[winner])[None])
            found = np.concatenate([found, children.take(child)])
        return found

    def _mutated(self, genome: Genomes) -> Genomes:
        """The genome with another option of one gene."""
        column = int(self._rng.integers(len(genome)))
        step = int(self._rng.integers(1, self._space.n_options[column]))
        child: Genomes = genome.copy()
        child[column] = (child[column] + step) % self._space.n_options[column]
        return child
