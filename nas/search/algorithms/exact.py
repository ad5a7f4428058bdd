"""Search along the exact Pareto front of an additive surrogate, a sum over slots."""

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
    """Evaluates a sample of all sizes first. Each further round fits an additive surrogate, computes its
    exact Pareto front, and evaluates the subnets of this front that add most hypervolume.

    The search ends when the whole front is evaluated. If no objective is a metric, one round is enough.
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
        problem: each of its objectives and limits is a metric or adds up over slots.
        known: evaluations to fit the surrogate to; the first two are the smallest and the largest subnet.
        seen: the subnets that are not new.
        n: largest number of subnets.
    """
    models = {
        metric: fit_additive(problem.space, known.genomes, values).table
        for metric, values in known.metrics.items()
    }
    front = problem_front(problem, models)
    new = np.array([len(seen.filter(row[None])) > 0 for row in front.genomes], dtype=np.bool_)
    measured = known.minimised[known.front]
    return front.genomes[new][greedy_batch(measured, front.minimised[new], known.reference, n)]
