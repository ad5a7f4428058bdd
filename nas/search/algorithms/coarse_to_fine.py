"""Coarse-to-fine selection (BigNAS, Yu et al. 2020, §3.3): skeletons first, then their details.

A skeleton makes each kind of choice (resolution, width, depth, kernel, expand) alike in the whole network.
The best ones are then varied gene by gene, all of it on real evaluations.
"""

from __future__ import annotations

import itertools

import numpy as np

from nas.search.algorithms.base import Evaluated, Task, Unseen
from nas.search.algorithms.local_search import neighbours
from nas.search.algorithms.ranking import crowded_order
from nas.search.problem.objectives import Metrics
from search_spaces import Genomes, Space

COARSE_SHARE = 0.5
"""Share of the budget for skeletons."""
LEVELS = (0.0, 0.5, 1.0)
"""Where a skeleton takes the options of a kind from: the smallest, the middle one, the largest."""


class CoarseToFine:
    """Skeletons in random order; then single steps away from the best subnets so far."""

    def __init__(self, task: Task) -> None:
        self._space, self._rng = task.problem.space, task.rng
        self._evaluated = Evaluated(task.problem)
        self._unseen = Unseen(self._space)
        coarse = self._rng.permutation(skeletons(self._space))
        self._coarse: Genomes = coarse[: max(1, round(COARSE_SHARE * task.budget))]

    def ask(self, n: int) -> Genomes:
        """See `Optimizer`."""
        batch = self._unseen.filter(self._coarse)[:n]
        if len(batch) == 0:
            batch = self._finer(n)
        return self._unseen.take(batch)

    def tell(self, genomes: Genomes, metrics: Metrics) -> None:
        """See `Optimizer`."""
        self._unseen.take(genomes)
        self._evaluated.add(genomes, metrics)

    def _finer(self, n: int) -> Genomes:
        """Up to `n` new subnets, each a step from one of the best, which are taken in their order."""
        best = crowded_order(self._evaluated, np.arange(len(self._evaluated))).argsort()
        fresh = Unseen(self._space)
        found: Genomes = self._evaluated.genomes[:0]
        while len(found) < n:
            before = len(found)
            for parent in self._evaluated.genomes[best[:n]]:
                steps = fresh.filter(self._unseen.filter(neighbours(self._space, parent)))
                if len(steps) and len(found) < n:
                    step = steps[self._rng.integers(len(steps), size=1)]
                    found = np.concatenate([found, fresh.take(step)])
            if len(found) == before:  # every step from these is known
                break
        return found


def skeletons(space: Space) -> Genomes:
    """Subnets whose genes of a kind are all at one level, canonical, shape (at most 3^kinds, n_genes)."""
    kinds = [gene.kind for gene in space.genes]
    distinct = list(dict.fromkeys(kinds))
    levels = np.array(list(itertools.product(LEVELS, repeat=len(distinct))))
    rows = levels[:, [distinct.index(kind) for kind in kinds]] * (space.n_options - 1)
    return np.unique(space.canonical(np.round(rows).astype(np.int64)), axis=0)
