"""Random search: the baseline of every other."""

from __future__ import annotations

import numpy as np

from nas.search.algorithms.base import SearchAlgorithm
from search_spaces import Genomes

TRIES = 20
"""Draws in a row without a new subnet after which the space counts as exhausted."""


class RandomSearch(SearchAlgorithm):
    """Uniform random subnets, none twice."""

    def _propose(self, n: int) -> Genomes:
        found = self._seen.filter(self._space.sample(self._rng, n))
        for _ in range(TRIES):
            if len(found) < n:
                more = self._space.sample(self._rng, n - len(found))
                found = self._seen.filter(np.concatenate([found, more]))
        return found
