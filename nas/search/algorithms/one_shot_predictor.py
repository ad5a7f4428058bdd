"""Search on a predictor that is fitted once (once-for-all, Cai et al. 2020, §3.4)."""

from __future__ import annotations

from nas.search.algorithms.base import SearchAlgorithm, SearchTask
from nas.search.algorithms.evolution import evolve
from nas.search.algorithms.random_search import random_unseen
from nas.search.algorithms.surrogate import SurrogateFitter
from nas.search.problem.hypervolume import greedy_batch, reference_point
from predictors.selection import MIN_SAMPLES
from search_spaces import Genomes

FIT_SHARE = 0.75
"""Share of the budget for random subnets, to which the predictor is fitted; the rest is for its front."""
INNER_EVALUATIONS = 20_000
"""Subnets that NSGA-II scores on the predictor."""


class OneShotPredictorSearch(SearchAlgorithm):
    """Fits a predictor to random subnets, runs NSGA-II on it, and evaluates the predicted front.

    The search ends early if the front is smaller than the rest of the budget.
    """

    def __init__(self, task: SearchTask) -> None:
        super().__init__(task)
        self._task = task
        self._to_fit = max(MIN_SAMPLES, round(FIT_SHARE * task.budget))
        self._front: Genomes | None = None

    def _propose(self, n: int) -> Genomes:
        missing = self._to_fit - len(self._history)
        if missing > 0:
            return random_unseen(self._space, self._rng, self._seen, min(n, missing))
        if self._front is None:
            self._front = self._predicted_front()
        batch, self._front = self._front[:n], self._front[n:]
        return batch

    def _predicted_front(self) -> Genomes:
        """The predicted front, in the order in which its subnets add hypervolume."""
        space = self._space
        surrogate = SurrogateFitter(self._task)(self._history)
        found = evolve(space, surrogate.mean, self._history.genomes, self._rng, INNER_EVALUATIONS)
        genomes = self._seen.filter(found.genomes)
        if len(genomes) == 0:
            return genomes
        minimised, _ = surrogate.mean(genomes)
        reference = reference_point(*surrogate.mean(space.encode([space.smallest, space.largest]))[0])
        return genomes[greedy_batch(minimised[:0], minimised, reference, len(genomes))]
