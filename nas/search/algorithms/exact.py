"""Search that follows the exact front of a surrogate which adds up over slots."""

from __future__ import annotations

import numpy as np

from nas.search.algorithms.base import SearchAlgorithm, SearchTask, n_start, size_stratified_sample
from nas.search.algorithms.history import Deduplicator, History
from nas.search.problem.exact_problem import check_additive, problem_front
from nas.search.problem.hypervolume import greedy_batch
from nas.search.problem.problem import Problem
from predictors import fit_additive
from search_spaces import Genomes


class ExactSearch(SearchAlgorithm):
    """A sample of all sizes first; then rounds of a fit, its whole Pareto front, and the best part of it.

    It ends when all of the front is evaluated. If no objective is a metric, one round is enough.
    """

    def __init__(self, task: SearchTask) -> None:
        super().__init__(task)
        check_additive(task.problem)  # before anything is evaluated
        n = n_start(task.budget) if task.problem.metrics else 0
        self._start = size_stratified_sample(self._space, self._rng, n)

    def _propose(self, n: int) -> Genomes:
        batch = self._seen.filter(self._start)[:n]
        return batch if len(batch) else best_of_exact_front(self._problem, self._history, self._seen, n)


def best_of_exact_front(problem: Problem, known: History, seen: Deduplicator, n: int) -> Genomes:
    """Up to `n` new subnets of an additive surrogate's front, in the order in which they add hypervolume.

    Args:
        problem: all of it adds up over slots, or is a metric.
        known: what the surrogate is fitted to; its first two subnets are the smallest and the largest.
        seen: the subnets that are not new.
        n: how many.
    """
    models = {
        metric: fit_additive(problem.space, known.genomes, values).table
        for metric, values in known.metrics.items()
    }
    front = problem_front(problem, models)
    new = np.array([len(seen.filter(row[None])) > 0 for row in front.genomes], dtype=np.bool_)
    measured = known.minimised[known.front]
    return front.genomes[new][greedy_batch(measured, front.minimised[new], known.reference, n)]
