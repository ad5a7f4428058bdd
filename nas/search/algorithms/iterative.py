"""Search that fits its predictor again after every batch of real evaluations.

The method follows LINAS (Cummings et al. 2022) and ParEGO-like Bayesian optimization. It uses the uncertainty
of a Gaussian process, computes costs exactly, chooses each batch by the hypervolume that the batch may add,
and takes a part of the batch from the exact front of a simpler model.
"""

from __future__ import annotations

import numpy as np

from nas.search.algorithms.base import START, SearchAlgorithm, SearchTask, n_start, size_stratified_sample
from nas.search.algorithms.evolution import evolve
from nas.search.algorithms.exact import best_of_exact_front
from nas.search.algorithms.local_search import improve
from nas.search.algorithms.surrogate import Surrogate, SurrogateFitter
from nas.search.problem.exact_problem import has_quick_front
from nas.search.problem.hypervolume import greedy_batch
from predictors.selection import MIN_SAMPLES
from search_spaces import Genomes

INNER_EVALUATIONS = 5_000
"""Subnets that NSGA-II scores on the predictor in each round."""
LOCAL_PASSES = 2
"""Passes of local search over the front that NSGA-II finds."""
EXACT_SHARE = 0.5
"""Share of a batch that is taken from the exact front of an additive surrogate, if this front is quick to
compute. The surrogate and the predictor make different errors, so a whole batch is seldom wrong."""
EXACT_UNTIL = 250
"""With more evaluations, `EXACT_SHARE` falls in inverse proportion to their number, because the predictor is
then the more accurate model."""
HANDED_ON = 50
"""Subnets of the predicted front that join the first population of the next round."""
DEVIATIONS = 0.5
"""Optimism in the choice of a batch, in standard deviations, so that uncertain subnets are evaluated too. The
batch is chosen from the front of the predicted means: with 1900 evaluations, means alone are predicted in a
sixth of the time."""


class IterativeSearch(SearchAlgorithm):
    """Evaluates a sample of all sizes first. Each further round fits the predictor, runs NSGA-II on it, and
    evaluates a new batch."""

    def __init__(self, task: SearchTask) -> None:
        super().__init__(task)
        self._fit = SurrogateFitter(task)
        self._start = size_stratified_sample(self._space, self._rng, n_start(task.budget))
        self._population = self._start

    def _propose(self, n: int) -> Genomes:
        batch = self._seen.filter(self._start)[:n]
        missing = MIN_SAMPLES - len(self._history)
        if len(batch) == 0 and missing > 0:  # in a tiny space, some were equal
            sample = size_stratified_sample(self._space, self._rng, START)
            batch = self._seen.filter(sample)[: min(n, missing)]
        return batch if len(batch) else self._round(n)

    def _round(self, n: int) -> Genomes:
        """The next batch, at most `n` subnets."""
        surrogate = self._fit(self._history)

        found = evolve(self._space, surrogate.mean, self._population, self._rng, INNER_EVALUATIONS)
        front = improve(self._space, surrogate.mean, found, self._rng, LOCAL_PASSES)
        chosen = self._rng.permutation(len(front))[:HANDED_ON]
        self._population = np.concatenate([front[chosen], found.population])
        best = self._most_promising(self._seen.filter(front), surrogate, n)
        exact = best[:0]
        if has_quick_front(self._problem):
            share = EXACT_SHARE * min(1, EXACT_UNTIL / len(self._history))
            exact = best_of_exact_front(self._problem, self._history, self._seen, round(share * n))
        return self._seen.filter(np.concatenate([exact, best, front, found.population]))[:n]

    def _most_promising(self, candidates: Genomes, surrogate: Surrogate, n: int) -> Genomes:
        """Up to `n` candidates, which would add most hypervolume to the measured front."""
        if len(candidates) == 0:
            return candidates
        front = self._history.minimised[self._history.front]
        promised, _ = surrogate.optimistic(candidates, DEVIATIONS)
        return candidates[greedy_batch(front, promised, self._history.reference, n)]
