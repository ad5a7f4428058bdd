"""The exact front of a search problem whose metrics are modelled as sums over slots."""

from __future__ import annotations

from collections.abc import Mapping

from nas.exact_front import Additive, ExactFront, Negated, exact_front
from nas.objectives import Computed, Measured, Objective, Problem

Models = Mapping[str, Additive]
"""By metric."""


def problem_front(problem: Problem, models: Models, *, tolerance: float = 0.0) -> ExactFront:
    """The Pareto front of everything in the problem's space that keeps its limits.

    Args:
        problem: its objectives and limits must add up over slots.
        models: what stands for each metric.
        tolerance: as in `exact_front`.

    Raises:
        ValueError: an objective does not add up, or the front is too large.
    """
    objectives = [_rising(additive(o, models), not o.maximise) for o in problem.objectives]
    limits = [
        (_rising(additive(limit.objective, models), limit.sense == "max"), _signed(limit.bound, limit.sense))
        for limit in problem.constraints
    ]
    return exact_front(problem.space, objectives, limits, tolerance=tolerance)


def additive(objective: Objective, models: Models) -> Additive:
    """What an objective adds up from.

    Raises:
        ValueError: it does not add up over slots.
    """
    if isinstance(objective, Measured):
        return models[objective.metric]
    if isinstance(objective, Computed) and isinstance(objective.compute, Additive):
        return objective.compute
    raise ValueError(
        f"the exact front needs objectives and limits that add up over blocks, such as latency_ms, macs, "
        f"params, accuracy and cross_entropy; {objective.name!r} does not: use --algorithm iterative"
    )


def _rising(quantity: Additive, less_is_better: bool) -> Additive:
    return quantity if less_is_better else Negated(quantity)


def _signed(bound: float, sense: str) -> float:
    return bound if sense == "max" else -bound
