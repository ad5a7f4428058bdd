"""Evaluations that end in time."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from hw_profiles.measuring.runner.process_limits import usable_cores
from search_spaces import Arch

AT_ONCE = 10
"""Subnets, or as many as there are cores, that are evaluated between two looks at the clock."""
Evaluate = Callable[[Sequence[Arch], str], list[dict[str, float]]]
"""Metrics of subnets, and why they are evaluated."""


def evaluate_until(
    evaluate: Evaluate, archs: Sequence[Arch], origin: str, deadline: float | None, least: int = 0
) -> list[dict[str, float]]:
    """Metrics of `archs`, of fewer from the front where the time is up.

    Args:
        evaluate: what does the work; what it has begun is finished.
        archs: the subnets.
        origin: why they are evaluated.
        deadline: time by `time.monotonic`, in seconds; None: all are evaluated.
        least: subnets that are evaluated in any case.
    """
    if deadline is None:
        return evaluate(archs, origin)
    step = max(AT_ONCE, usable_cores())
    rows: list[dict[str, float]] = []
    for start in range(0, len(archs), step):
        if start >= least and time.monotonic() > deadline:
            break
        rows += evaluate(archs[start : start + step], origin)
    return rows
