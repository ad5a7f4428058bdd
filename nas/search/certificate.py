"""A certificate: the distance of a search's front from the exact optimum of a surrogate.

The surrogate is a sum over slots, so its whole Pareto front can be computed. The certificate is exact for the
surrogate; the surrogate's rank correlation tells how well it represents the measured metrics.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas.search.problem.exact_front import ExactFront
from nas.search.problem.exact_problem import has_quick_front, is_additive, problem_front
from nas.search.problem.hypervolume import hypervolume
from nas.search.problem.problem import Problem
from predictors import AdditiveFit
from search_spaces import Genomes

Vector = NDArray[np.float64]
MANY_TOLERANCE = 0.01
"""Allowed error of the front of more than two quantities, as a share of each objective's range."""


@dataclass(frozen=True)
class Certificate:
    """The hypervolume of a front relative to the surrogate's exact front."""

    front: ExactFront
    hypervolume: float
    """Hypervolume of the surrogate's exact front."""
    found_hypervolume: float
    """Hypervolume of the subnets that the search returned, by the surrogate."""
    tau: Mapping[str, float]
    """By metric: Kendall's τ-b of the surrogate in cross-validation."""
    objectives: tuple[str, ...]

    @property
    def share(self) -> float:
        """Hypervolume found / hypervolume of the exact front; NaN if that is 0."""
        return self.found_hypervolume / self.hypervolume if self.hypervolume > 0 else float("nan")

    def record(self) -> dict[str, Any]:
        """Plain values for JSON; an approximate front has its largest error."""
        error = dict(zip(self.objectives, self.front.error.tolist(), strict=True))
        return {
            "front": "exact" if self.front.exact else "approximate",
            **({} if self.front.exact else {"largest_error": error}),
            "subnets": len(self.front.genomes),
            "hypervolume": self.hypervolume,
            "found_hypervolume": self.found_hypervolume,
            "found_share": self.share if np.isfinite(self.share) else None,
            "surrogate_kendall_tau": dict(self.tau),
        }


def certify(
    problem: Problem, fits: Mapping[str, AdditiveFit], genomes: Genomes, reference: Vector
) -> Certificate | None:
    """Compare a front with the exact front of the surrogate.

    Args:
        problem: the problem of the search.
        fits: the surrogate of each of its metrics.
        genomes: the front, shape (n, n_genes).
        reference: reference point of the hypervolume, minimised objectives, shape (n_objectives,).

    Returns:
        None if an objective or a limit does not add up over slots.
    """
    if not is_additive(problem):
        return None
    models = {metric: fit.table for metric, fit in fits.items()}
    front = problem_front(problem, models, tolerance=0.0 if has_quick_front(problem) else MANY_TOLERANCE)
    predicted = {metric: model(genomes) for metric, model in models.items()}
    satisfying = (problem.violations(genomes, predicted) <= 0).all(axis=1)
    return Certificate(
        front,
        hypervolume(front.minimised, reference),
        hypervolume(problem.as_minimization(genomes, predicted)[satisfying], reference),
        {metric: fits[metric].tau for metric in problem.metrics},
        tuple(objective.name for objective in problem.objectives),
    )
