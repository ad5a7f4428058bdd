"""Search that follows the exact front of a surrogate which adds up over slots."""

from __future__ import annotations

import numpy as np

from nas.search.algorithms.base import Evaluated, Task, Unseen, spread_of_sizes
from nas.search.problem.exact_problem import check_additive, problem_front
from nas.search.problem.hypervolume import greedy_batch, nondominated
from nas.search.problem.objectives import Metrics, Problem
from predictors import fit_additive
from predictors.selection import MIN_SAMPLES
from search_spaces import Genomes

START = 50
"""Subnets evaluated before the first fit, at most a third of the budget."""


class ExactSearch:
    """A spread of sizes first; then rounds of a fit, its whole Pareto front, and the best of it.

    It ends where all of the front is evaluated. Where nothing has to be measured, its first answer is final.
    """

    def __init__(self, task: Task) -> None:
        self._problem, self._space, rng = task.problem, task.problem.space, task.rng
        n = max(MIN_SAMPLES, min(START, task.budget // 3)) if task.problem.metrics else 0
        self._start = spread_of_sizes(self._space, rng, n)
        self._evaluated = Evaluated(task.problem)
        self._unseen = Unseen(self._space)
        check_additive(task.problem)  # before anything is evaluated

    def ask(self, n: int) -> Genomes:
        """See `Optimizer`."""
        batch = self._unseen.filter(self._start)[:n]
        if len(batch) == 0:
            batch = best_of_exact_front(self._problem, self._evaluated, self._unseen, n)
        return self._unseen.take(batch)

    def tell(self, genomes: Genomes, metrics: Metrics) -> None:
        """See `Optimizer`."""
        self._unseen.take(genomes)
        self._evaluated.add(genomes, metrics)


def best_of_exact_front(problem: Problem, known: Evaluated, unseen: Unseen, n: int) -> Genomes:
    """Up to `n` new subnets of the front of an additive surrogate, what adds most hypervolume first.

    Args:
        problem: all of it adds up over slots, or is a metric.
        known: what the surrogate is fitted to; its first two subnets are the smallest and the largest.
        unseen: knows which subnets are new.
        n: how many.
    """
    models = {
        metric: fit_additive(problem.space, known.genomes, values).table
        for metric, values in known.metrics.items()
    }
    front = problem_front(problem, models)
    new = np.array([len(unseen.filter(row[None])) > 0 for row in front.genomes], dtype=np.bool_)
    feasible = known.minimised[known.feasible]
    measured = feasible[nondominated(feasible)]
    return front.genomes[new][greedy_batch(measured, front.minimised[new], known.reference, n)]
