"""The exact front of a search problem whose metrics are modelled as sums over slots."""

from __future__ import annotations

from collections.abc import Mapping

from nas.search.problem.exact_front import Additive, ExactFront, Negated, exact_front
from nas.search.problem.objectives import CostObjective, MetricObjective, Objective, OwnObjective
from nas.search.problem.problem import Problem

Models = Mapping[str, Additive]
"""By metric."""


def problem_front(problem: Problem, models: Models, *, tolerance: float = 0.0) -> ExactFront:
    """The Pareto front of all subnets of the problem's space that satisfy its limits.

    Args:
        problem: its objectives and limits must add up over slots.
        models: the model of each metric.
        tolerance: as in `exact_front`.

    Raises:
        ValueError: an objective does not add up, or the front is too large.
    """
    check_additive(problem)
    objectives = [_rising(_additive(o, models), not o.maximise) for o in problem.objectives]
    limits = [
        (_rising(_additive(limit.objective, models), limit.sense == "max"), _signed(limit.bound, limit.sense))
        for limit in problem.constraints
    ]
    return exact_front(problem.space, objectives, limits, tolerance=tolerance)


def is_additive(problem: Problem) -> bool:
    """Whether all objectives and limits add up over slots."""
    return all(map(_adds_up, problem.quantities))


def has_quick_front(problem: Problem) -> bool:
    """Whether the exact front is quick enough for a search round: at most two quantities, which all add
    up."""
    return is_additive(problem) and len({part.name for part in problem.quantities}) <= 2


def check_additive(problem: Problem) -> None:
    """Check that a problem has an exact front.

    Raises:
        ValueError: an objective or a limit does not add up over slots.
    """
    for part in problem.quantities:
        if not _adds_up(part):
            raise ValueError(
                f"the exact front needs objectives and limits that add up over blocks, such as latency_ms, "
                f"macs, params and the metrics of the task; {part.name!r} does not: "
                f"use --algorithm iterative"
            )


def _adds_up(objective: Objective) -> bool:
    plain = _plain(objective)
    return isinstance(plain, MetricObjective) or (
        isinstance(plain, CostObjective) and isinstance(plain.compute, Additive)
    )


def _plain(objective: Objective) -> Objective:
    """The objective itself, without the wrapper of a user's own objective."""
    return objective.objective if isinstance(objective, OwnObjective) else objective


def _additive(objective: Objective, models: Models) -> Additive:
    objective = _plain(objective)
    if isinstance(objective, MetricObjective):
        return models[objective.metric]
    assert isinstance(objective, CostObjective)  # see `check_additive`
    assert isinstance(objective.compute, Additive)
    return objective.compute


def _rising(quantity: Additive, less_is_better: bool) -> Additive:
    return quantity if less_is_better else Negated(quantity)


def _signed(bound: float, sense: str) -> float:
    return bound if sense == "max" else -bound
