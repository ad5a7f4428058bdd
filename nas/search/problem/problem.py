"""A search problem: objectives and limits over the subnets of a space."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from nas.search.problem.objectives import Context, Matrix, Metrics, Objective, OwnObjective, Vector, get
from search_spaces import Genomes, Space
from search_spaces.checked import one_per_subnet

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Constraint:
    """A limit on an objective."""

    objective: Objective
    sense: Literal["max", "min"]
    bound: float

    def __str__(self) -> str:
        return f"{self.objective.name} {'<=' if self.sense == 'max' else '>='} {self.bound:g}"

    def violation(self, values: Vector) -> Vector:
        """value / limit - 1, negated for a lower limit, so that ≤ 0 means satisfied; shape (n,)."""
        excess = values / self.bound - 1
        return excess if self.sense == "max" else -excess


def parse_constraint(
    text: str, sense: Literal["max", "min"], context: Context, *, allow_import: bool = False
) -> Constraint:
    """The constraint in `text`, such as `latency_ms=2`.

    Raises:
        ValueError: `text` is not NAME=NUMBER, the number is not above 0, or there is no such objective.
    """
    name, _, number = text.rpartition("=")
    try:
        bound = float(number)
    except ValueError:
        bound = np.nan
    if not name or not 0 < bound < np.inf:
        raise ValueError(
            f"--{sense} must be NAME=NUMBER with a number > 0, such as latency_ms=2, got {text!r}"
        )
    return Constraint(get(name, context, allow_import=allow_import), sense, bound)


def parse_constraints(
    maxima: Sequence[str], minima: Sequence[str], context: Context, *, allow_import: bool = False
) -> list[Constraint]:
    """The upper and the lower limits; see `parse_constraint`."""
    texts: list[tuple[str, Literal["max", "min"]]] = [*((text, "max") for text in maxima)]
    texts += ((text, "min") for text in minima)
    return [parse_constraint(text, sense, context, allow_import=allow_import) for text, sense in texts]


@dataclass(frozen=True)
class Problem:
    """The space, the objectives in the user's order, and the limits of a search."""

    space: Space
    objectives: Sequence[Objective]
    constraints: Sequence[Constraint] = ()

    @property
    def quantities(self) -> tuple[Objective, ...]:
        """The objectives and the quantities that are limited."""
        return (*self.objectives, *(constraint.objective for constraint in self.constraints))

    @property
    def metrics(self) -> tuple[str, ...]:
        """Every metric that an objective or a constraint reads, each once."""
        return tuple(dict.fromkeys(metric for part in self.quantities for metric in part.metrics))

    def metrics_in(self, table: pd.DataFrame) -> dict[str, Vector]:
        """The metrics of this problem from the columns of a table, each of shape (n,)."""
        return {name: table[name].to_numpy(dtype=np.float64) for name in self.metrics}

    def values(self, objective: Objective, genomes: Genomes, metrics: Metrics) -> Vector:
        """One objective of subnets, shape (n,).

        Raises:
            ValueError: the objective returns anything but finite numbers.
        """
        name = objective.given if isinstance(objective, OwnObjective) else objective.name
        source = f"the objective {name!r}"
        return one_per_subnet(source, objective(genomes, metrics), genomes, self.space)

    def as_minimization(self, genomes: Genomes, metrics: Metrics) -> Matrix:
        """The objectives, negated where more is better, shape (n, n_objectives)."""
        columns = [_sign(o) * self.values(o, genomes, metrics) for o in self.objectives]
        return np.stack(columns, axis=1)

    def violations(self, genomes: Genomes, metrics: Metrics) -> Matrix:
        """How far each constraint is exceeded, ≤ 0 where satisfied, shape (n, n_constraints)."""
        columns = [
            constraint.violation(self.values(constraint.objective, genomes, metrics))
            for constraint in self.constraints
        ]
        return np.stack(columns, axis=1) if columns else np.zeros((len(genomes), 0))

    def excess(self, genomes: Genomes, metrics: Metrics) -> Vector:
        """The sum of each subnet's violations of the limits, 0 where it satisfies them all, shape (n,)."""
        return np.asarray(np.maximum(self.violations(genomes, metrics), 0).sum(axis=1))

    def to_user_units(self, minimised: Matrix) -> Matrix:
        """Objectives with their own sign from minimised ones, or the reverse."""
        return minimised * [_sign(objective) for objective in self.objectives]


def _sign(objective: Objective) -> float:
    return -1.0 if objective.maximise else 1.0


class LimitsNotMetError(ValueError):
    """No subnet that was evaluated meets all limits."""


def unsatisfied(problem: Problem, closest: Genomes, metrics: Metrics) -> str:
    """One line with the limits that no subnet satisfies and the values of the closest one.

    Args:
        problem: a problem with at least one limit.
        closest: genome of the subnet with the smallest violation, shape (1, n_genes).
        metrics: metrics of this subnet, each of shape (1,).
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
        f"give wider limits"
    )
