"""Random search, the baseline for the other algorithms."""

from __future__ import annotations

import numpy as np

from nas.search.algorithms.base import SearchAlgorithm
from nas.search.algorithms.history import Deduplicator
from search_spaces import Genomes, Space

TRIES = 20
"""Draws in a row without a new subnet after which the space counts as exhausted."""


class RandomSearch(SearchAlgorithm):
    """Uniform random subnets, none twice."""

    def _propose(self, n: int) -> Genomes:
        return random_unseen(self._space, self._rng, self._seen, n)


def random_unseen(space: Space, rng: np.random.Generator, seen: Deduplicator, n: int) -> Genomes:
    """Up to `n` uniform random subnets that were not seen before; fewer if the space is exhausted."""
    genomes = seen.filter(space.sample(rng, n))
    for _ in range(TRIES):
        if len(genomes) < n:
            genomes = seen.filter(np.concatenate([genomes, space.sample(rng, n - len(genomes))]))
    return genomes
