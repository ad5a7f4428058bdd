"""All subnets of a small space."""

from __future__ import annotations

import itertools

import numpy as np

from nas.search.algorithms.base import Task, Unseen
from nas.search.problem.objectives import Metrics
from search_spaces import Genomes


class Exhaustive:
    """Every subnet once, in the order of the genomes."""

    def __init__(self, task: Task) -> None:
        space = task.problem.space
        self._unseen = Unseen(space)
        options = (range(n) for n in space.n_options)
        self._every: Genomes = np.array(list(itertools.product(*options)), dtype=np.int64)

    def ask(self, n: int) -> Genomes:
        """See `Optimizer`."""
        return self._unseen.take(self._unseen.filter(self._every)[:n])

    def tell(self, genomes: Genomes, metrics: Metrics) -> None:
        """See `Optimizer`."""
        self._unseen.take(genomes)
