"""All subnets of a small space."""

from __future__ import annotations

import itertools

import numpy as np

from nas.search.algorithms.base import SearchAlgorithm, SearchTask
from search_spaces import Genomes


class Exhaustive(SearchAlgorithm):
    """Every subnet once, in the order of the genomes."""

    def __init__(self, task: SearchTask) -> None:
        super().__init__(task)
        options = (range(n) for n in self._space.n_options)
        self._every: Genomes = np.array(list(itertools.product(*options)), dtype=np.int64)

    def _propose(self, n: int) -> Genomes:
        return self._seen.filter(self._every)[:n]
