"""Search: real evaluations steered by an optimizer, and the front that was measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nas.objectives import Constraint, Metrics, Problem
from nas.optimizers import SEARCH_ALGORITHMS, Optimizer, OptimizerFactory, Task
from nas.optimizers.base import Evaluated
from nas.optimizers.evolution import evolve
from nas.plugins import resolve
from nas.progress import Progress, silent
from nas.search_result import SearchResult
from predictors import CANDIDATES, PredictorFactory
from predictors.selection import MIN_SAMPLES
from search_spaces import Arch, Genomes, Space

Matrix = NDArray[np.float64]
BATCH = 50
"""Subnets asked for at once."""
FEASIBILITY_EVALUATIONS = 5_000
"""Genomes tried before a limit on computed quantities counts as impossible."""


@runtime_checkable
class Evaluator(Protocol):
    """Measures subnets; what it measured once it should remember."""

    def __call__(self, archs: Sequence[Arch], origin: str) -> list[dict[str, float]]:
        """The metrics of each of `archs`; `origin` says why they are evaluated."""


def search(
    problem: Problem,
    evaluate: Evaluator,
    *,
    algorithm: str = "iterative",
    budget: int,
    seed: int,
    batch: int = BATCH,
    predictors: Mapping[str, PredictorFactory] = CANDIDATES,
    origin: str = "search",
    allow_import: bool = True,
    progress: Progress = silent,
) -> SearchResult:
    """Search for the subnets that no other one beats in all objectives.

    The same seed asks for the same subnets, so a search that was killed goes on where it was if `evaluate`
    remembers. Run it with `algorithm="random"` for the baseline with equally many evaluations.

    Args:
        problem: what is searched for.
        evaluate: measures subnets.
        algorithm: a key of `SEARCH_ALGORITHMS`, or a user's own as `module:object`.
        budget: real evaluations in all, smallest and largest subnet included.
        seed: of everything random.
        batch: subnets evaluated between two decisions of the algorithm.
        predictors: candidates for the models of the metrics.
        origin: what `evaluate` is told.
        allow_import: whether `module:object` may be imported.
        progress: hears about every batch.

    Raises:
        ValueError: the algorithm is unknown, the budget is too small, or a constraint is impossible.
    """
    if budget < MIN_SAMPLES:
        raise ValueError(f"the budget must be >= {MIN_SAMPLES} real evaluations, got {budget}")
    factory: OptimizerFactory = resolve(
        "search algorithm", algorithm, SEARCH_ALGORITHMS, allow_import=allow_import
    )
    rng = np.random.default_rng(seed)
    _check_computed_limits(problem, rng)
    optimizer = factory(Task(problem, budget, rng, predictors))
    evaluated, measured = _run(problem, optimizer, evaluate, budget, batch, origin, progress)
    _check_measured_limits(problem, evaluated)
    return SearchResult.of(problem, algorithm, evaluated, pd.DataFrame(measured), predictors, seed)


def _run(
    problem: Problem,
    optimizer: Optimizer,
    evaluate: Evaluator,
    budget: int,
    batch: int,
    origin: str,
    progress: Progress,
) -> tuple[Evaluated, list[dict[str, float]]]:
    """Ask, evaluate and tell until the budget is spent or the optimizer has no more questions."""
    space = problem.space
    evaluated, rows = Evaluated(problem), []
    genomes = space.encode([space.smallest, space.largest])
    while len(genomes) > 0:
        measured = evaluate(space.decode(genomes), origin)
        rows += measured
        metrics = {name: np.array([row[name] for row in measured]) for name in problem.metrics}
        optimizer.tell(genomes, metrics)
        evaluated.add(genomes, metrics)
        progress("search", len(evaluated), budget)
        n = min(batch, budget - len(evaluated))
        genomes = optimizer.ask(n) if n > 0 else genomes[:0]
    return evaluated, rows


def _check_computed_limits(problem: Problem, rng: np.random.Generator) -> None:
    """Refuse limits on computed quantities that no subnet keeps, before anything is evaluated.

    Raises:
        ValueError: naming the limits and what the closest subnet reaches.
    """
    limits = [constraint for constraint in problem.constraints if not constraint.objective.metrics]
    limited = Problem(problem.space, [constraint.objective for constraint in limits], limits)
    if not limits:
        return

    def score(genomes: Genomes) -> tuple[Matrix, Matrix]:
        violations = limited.violations(genomes, {})
        return np.maximum(violations, 0).sum(axis=1, keepdims=True), violations

    space = problem.space
    corners = space.encode([space.smallest, space.largest])
    if (score(corners)[1] <= 0).all(axis=1).any():
        return
    found = evolve(space, score, corners, rng, FEASIBILITY_EVALUATIONS)
    if found.violation > 0:
        raise ValueError(_impossible(limits, found.genomes[:1], {}, space))


def _check_measured_limits(problem: Problem, evaluated: Evaluated) -> None:
    """Refuse to call anything the answer where no evaluated subnet keeps the limits.

    Raises:
        ValueError: naming the limits and what the closest subnet reaches.
    """
    violations = problem.violations(evaluated.genomes, evaluated.metrics)
    excess = np.maximum(violations, 0).sum(axis=1)
    if excess.min() > 0:
        best = [int(excess.argmin())]
        metrics = {name: values[best] for name, values in evaluated.metrics.items()}
        raise ValueError(_impossible(problem.constraints, evaluated.genomes[best], metrics, problem.space))


def _impossible(limits: Sequence[Constraint], closest: Genomes, metrics: Metrics, space: Space) -> str:
    wanted = " and ".join(str(limit) for limit in limits)
    reached = ", ".join(
        f"{limit.objective.name} = {limit.objective(closest, metrics)[0]:.6g}" for limit in limits
    )
    return (
        f"no subnet of the space {space.name!r} was found with {wanted}: the closest one, "
        f"{space.decode(closest)[0].id}, reaches {reached}; give a limit that it keeps"
    )
