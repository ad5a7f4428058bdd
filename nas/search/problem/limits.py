"""What is said of limits that no subnet keeps."""

from __future__ import annotations

from nas.search.problem.objectives import Metrics, Problem
from search_spaces import Genomes


class LimitsNotMetError(ValueError):
    """No subnet that was evaluated meets all limits."""


def impossible(problem: Problem, closest: Genomes, metrics: Metrics) -> str:
    """One line: which limits of a problem cannot be met, and what the closest subnet reaches.

    Args:
        problem: with at least one limit.
        closest: genome of the subnet that exceeds them least, shape (1, n_genes).
        metrics: its metrics.
    """
    limits = problem.constraints
    wanted = " and ".join(str(limit) for limit in limits)
    violations = problem.violations(closest, metrics)[0]
    missed = [str(limit) for limit, violation in zip(limits, violations, strict=True) if violation > 0]
    reached = ", ".join(
        f"{limit.objective.name} = {problem.values(limit.objective, closest, metrics)[0]:.6g}"
        for limit in limits
    )
    return (
        f"no subnet of the space {problem.space.name!r} was found with {wanted}: the closest one, "
        f"{problem.space.decode(closest)[0].id}, reaches {reached} and misses {' and '.join(missed)}; "
        f"give a limit that it keeps"
    )
