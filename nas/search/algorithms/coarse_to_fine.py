"""Coarse-to-fine selection (BigNAS, Yu et al. 2020, §3.3).

Skeletons are evaluated first: subnets in which each kind of choice (resolution, width, depth, kernel, expand)
has the same level in the whole network. Then single genes of the best subnets are changed. All evaluations
are real; there is no predictor.
"""

from __future__ import annotations

import itertools

import numpy as np

from nas.search.algorithms.base import SearchAlgorithm, SearchTask
from nas.search.algorithms.history import Deduplicator
from nas.search.algorithms.local_search import neighbours
from nas.search.algorithms.ranking import crowded_order
from search_spaces import Genomes, Space

COARSE_SHARE = 0.5
"""Share of the budget for skeletons."""
LEVELS = (0.0, 0.5, 1.0)
"""Levels of a kind of choice in a skeleton: the smallest, the middle and the largest option."""


class CoarseToFine(SearchAlgorithm):
    """Evaluates skeletons in random order, then neighbours of the best subnets so far."""

    def __init__(self, task: SearchTask) -> None:
        super().__init__(task)
        coarse = self._rng.permutation(skeletons(self._space))
        self._coarse: Genomes = coarse[: max(1, round(COARSE_SHARE * task.budget))]

    def _propose(self, n: int) -> Genomes:
        batch = self._seen.filter(self._coarse)[:n]
        return batch if len(batch) else self._finer(n)

    def _finer(self, n: int) -> Genomes:
        """Up to `n` new subnets, each of which differs by one gene from one of the `n` best subnets."""
        best = crowded_order(self._history, np.arange(len(self._history))).argsort()
        fresh = Deduplicator(self._space)
        found: Genomes = self._history.genomes[:0]
        while len(found) < n:
            before = len(found)
            for parent in self._history.genomes[best[:n]]:
                steps = fresh.filter(self._seen.filter(neighbours(self._space, parent)))
                if len(steps) and len(found) < n:
                    step = steps[self._rng.integers(len(steps), size=1)]
                    found = np.concatenate([found, fresh.take(step)])
            if len(found) == before:  # all neighbours were evaluated
                break
        return found


def skeletons(space: Space) -> Genomes:
    """Canonical genomes in which all genes of a kind have one level, shape (at most 3^kinds, n_genes)."""
    kinds = [gene.kind for gene in space.genes]
    distinct = list(dict.fromkeys(kinds))
    levels = np.array(list(itertools.product(LEVELS, repeat=len(distinct))))
    rows = levels[:, [distinct.index(kind) for kind in kinds]] * (space.n_options - 1)
    return np.unique(space.canonical(np.round(rows).astype(np.int64)), axis=0)
