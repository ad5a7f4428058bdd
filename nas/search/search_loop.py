"""The ask-and-tell loop of a search on real evaluations."""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import partial
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nas.evaluation.deadline import Evaluate, evaluate_until
from nas.plugins import resolve
from nas.search.algorithms import SEARCH_ALGORITHMS, Optimizer, OptimizerFactory, SearchTask
from nas.search.algorithms.evolution import evolve
from nas.search.algorithms.exhaustive import Exhaustive
from nas.search.algorithms.history import Deduplicator, History
from nas.search.algorithms.own import OwnOptimizer
from nas.search.problem.problem import LimitsNotMetError, Problem, unsatisfied
from nas.search.search_result import SearchResult
from predictors import CANDIDATES, PredictorFactory
from predictors.selection import MIN_SAMPLES
from search_spaces import Genomes, Space

Matrix = NDArray[np.float64]
BATCH = 50
"""Subnets that are evaluated between two decisions of the algorithm."""
SMALL_SPACE = 64
"""A space with fewer subnets is evaluated completely."""
FEASIBILITY_EVALUATIONS = 5_000
"""Genomes that are tried before a limit on costs counts as impossible."""


def search(
    problem: Problem,
    evaluate: Evaluate,
    *,
    algorithm: str = "iterative",
    budget: int,
    seed: int,
    batch: int = BATCH,
    predictors: Mapping[str, PredictorFactory] = CANDIDATES,
    start: Genomes | None = None,
    deadline: float | None = None,
    origin: str = "search",
    allow_import: bool = False,
) -> SearchResult:
    """Search for the Pareto front of a problem.

    The same seed proposes the same subnets, so an interrupted search continues where it stopped if `evaluate`
    stores its results. `algorithm="random"` gives the baseline with equally many evaluations. A space with
    fewer than `SMALL_SPACE` subnets is evaluated completely if the budget allows.

    Args:
        problem: the space, the objectives and the limits.
        evaluate: evaluates subnets.
        algorithm: a key of `SEARCH_ALGORITHMS`, or a user's own as `module:object`.
        budget: real evaluations in all, smallest and largest subnet included.
        seed: seed of all random numbers.
        batch: subnets evaluated between two decisions of the algorithm.
        predictors: candidates for the models of the metrics; none for an algorithm that needs no models.
        start: subnets to evaluate before the algorithm's own, such as another device's front, shape
            (n, n_genes); at most half of the budget.
        deadline: time of `time.monotonic`, in seconds, after which evaluations begin only until there are
            `MIN_SAMPLES` in all; evaluations that have begun are finished.
        origin: passed to `evaluate`.
        allow_import: whether `module:object` may be imported.

    Raises:
        LimitsNotMetError: no subnet meets the limits, as computed or as evaluated.
        ValueError: the algorithm is unknown, the budget is too small, or a user's own code fails or returns
            values that are not finite numbers.
    """
    space = problem.space
    least = min(MIN_SAMPLES, space.n_subnets)
    if budget < least:
        raise ValueError(f"the budget must be >= {least} real evaluations, got {budget}")
    factory: OptimizerFactory = resolve(
        "search algorithm", algorithm, SEARCH_ALGORITHMS, allow_import=allow_import
    )
    if algorithm not in SEARCH_ALGORITHMS:
        factory = partial(OwnOptimizer, algorithm, factory)
    if is_evaluated_completely(space, budget):
        algorithm, factory = "exhaustive", Exhaustive
    corners = space.encode([space.smallest, space.largest])
    _check_computed_objectives(problem, corners)
    rng = np.random.default_rng(seed)
    _check_computed_limits(problem, corners, rng)
    task = SearchTask(problem, budget, rng, predictors)
    optimizer = factory(task)
    first = Deduplicator(space).take(corners if start is None else np.concatenate([corners, start]))
    stop = Stop(budget, deadline)
    first = first[: max(2, budget // 2)]
    evaluated, measured = _run(task, optimizer, evaluate, first, stop, batch, origin)
    check_measured_limits(problem, evaluated)
    return SearchResult.of(
        problem, algorithm, evaluated, pd.DataFrame(measured), task.predictions, predictors, seed
    )


def is_evaluated_completely(space: Space, budget: int) -> bool:
    """Whether a search with this budget evaluates all subnets of the space."""
    return space.n_subnets < SMALL_SPACE and space.n_subnets <= budget


class Stop(NamedTuple):
    """When a search ends."""

    budget: int
    """Real evaluations."""
    deadline: float | None
    """Time of `time.monotonic`, in seconds."""

    def left(self, done: int) -> int:
        """Evaluations that may still begin; at least `MIN_SAMPLES` are needed for a result."""
        late = self.deadline is not None and time.monotonic() > self.deadline
        return max(MIN_SAMPLES - done, 0) if late else self.budget - done


def _run(
    task: SearchTask,
    optimizer: Optimizer,
    evaluate: Evaluate,
    genomes: Genomes,
    stop: Stop,
    batch: int,
    origin: str,
) -> tuple[History, list[dict[str, float]]]:
    """Evaluate `genomes`, then what the optimizer proposes, until the search stops or the optimizer is
    done."""
    problem, predictions = task.problem, task.predictions
    evaluated = History(problem)
    rows: list[dict[str, float]] = []
    while len(genomes) > 0:
        least = max(1, MIN_SAMPLES - len(rows))  # a result needs at least this many evaluations
        archs = problem.space.decode(genomes)
        measured = evaluate_until(evaluate, archs, origin, stop.deadline, least)
        rows += measured
        genomes = genomes[: len(measured)]
        metrics = {name: np.array([row[name] for row in measured]) for name in problem.metrics}
        problem.as_minimization(genomes, metrics)  # checks that the values are finite
        predictions.add_round(archs[: len(measured)], predictions.predict(genomes), metrics)
        optimizer.tell(genomes, metrics)
        evaluated.add(genomes, metrics)
        n = min(batch, stop.left(len(evaluated)))
        genomes = optimizer.ask(n) if n > 0 else genomes[:0]
    return evaluated, rows


def _check_computed_objectives(problem: Problem, corners: Genomes) -> None:
    """Before anything is evaluated, check that costs are finite numbers.

    Raises:
        ValueError: a cost is not finite; the message names the objective and the value.
    """
    computed = [objective for objective in problem.objectives if not objective.metrics]
    for objective in computed:
        problem.values(objective, corners, {})


def _check_computed_limits(problem: Problem, corners: Genomes, rng: np.random.Generator) -> None:
    """Before anything is evaluated, check that some subnet satisfies the limits on costs.

    Raises:
        LimitsNotMetError: no subnet was found; the message names the limits and the costs of the closest one.
    """
    limits = [constraint for constraint in problem.constraints if not constraint.objective.metrics]
    limited = Problem(problem.space, [constraint.objective for constraint in limits], limits)
    if not limits:
        return

    def score(genomes: Genomes) -> tuple[Matrix, Matrix]:
        violations = limited.violations(genomes, {})
        return np.maximum(violations, 0).sum(axis=1, keepdims=True), violations

    if (score(corners)[1] <= 0).all(axis=1).any():
        return
    found = evolve(problem.space, score, corners, rng, FEASIBILITY_EVALUATIONS)
    if found.violation > 0:
        raise LimitsNotMetError(unsatisfied(limited, found.genomes[:1], {}))


def check_measured_limits(problem: Problem, evaluated: History) -> None:
    """Check that some evaluated subnet satisfies the limits.

    Raises:
        LimitsNotMetError: no subnet does; the message names the limits and the values of the closest one.
    """
    excess = evaluated.excess
    if excess.min() > 0:
        best = [int(excess.argmin())]
        metrics = {name: values[best] for name, values in evaluated.metrics.items()}
        raise LimitsNotMetError(unsatisfied(problem, evaluated.genomes[best], metrics))
