"""Evaluations with a deadline."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from hw_profiles.measuring.runner.process_limits import usable_cores
from search_spaces import Arch

MIN_CHUNK = 10
"""Subnets that are evaluated between two checks of the time, or the number of cores if it is larger."""
Evaluate = Callable[[Sequence[Arch], str], list[dict[str, float]]]
"""Called with the subnets and the purpose of the evaluation; returns their metrics."""


def evaluate_until(
    evaluate: Evaluate, archs: Sequence[Arch], origin: str, deadline: float | None, least: int = 0
) -> list[dict[str, float]]:
    """Metrics of `archs`, or only of the first ones if the deadline passes.

    Args:
        evaluate: evaluates subnets; a call that has started is finished.
        archs: the subnets.
        origin: purpose of the evaluation, stored in the archive.
        deadline: time of `time.monotonic`, in seconds; None: no deadline.
        least: number of subnets that are evaluated regardless of the deadline.
    """
    if deadline is None:
        return evaluate(archs, origin)
    step = max(MIN_CHUNK, usable_cores())
    rows: list[dict[str, float]] = []
    for start in range(0, len(archs), step):
        if start >= least and time.monotonic() > deadline:
            break
        rows += evaluate(archs[start : start + step], origin)
    return rows
