"""What is said of limits that no subnet keeps."""

from __future__ import annotations

from collections.abc import Sequence

from nas.problem.objectives import Constraint, Metrics
from search_spaces import Genomes, Space


def impossible(limits: Sequence[Constraint], closest: Genomes, metrics: Metrics, space: Space) -> str:
    """One line: which limits cannot be kept, and what the closest subnet reaches.

    Args:
        limits: all that were asked for.
        closest: genome of the subnet that exceeds them least, shape (1, n_genes).
        metrics: its metrics.
        space: of the genome.
    """
    wanted = " and ".join(str(limit) for limit in limits)
    violations = [limit.violation(closest, metrics)[0] for limit in limits]
    missed = [str(limit) for limit, violation in zip(limits, violations, strict=True) if violation > 0]
    reached = ", ".join(
        f"{limit.objective.name} = {limit.objective(closest, metrics)[0]:.6g}" for limit in limits
    )
    return (
        f"no subnet of the space {space.name!r} was found with {wanted}: the closest one, "
        f"{space.decode(closest)[0].id}, reaches {reached} and misses {' and '.join(missed)}; "
        f"give a limit that it keeps"
    )
