"""The second stage of a search on few images: its best subnets are evaluated on all of them.

The first stage evaluates every subnet on a part of the validation images. The second stage evaluates the
front and the subnets near it on all images, and only these metrics count in its result.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from nas.evaluation.deadline import Evaluate, evaluate_until
from nas.search.algorithms.history import History
from nas.search.algorithms.ranking import crowded_order
from nas.search.search_loop import check_measured_limits
from nas.search.search_result import SearchResult
from predictors.selection import MIN_SAMPLES

FULL_SHARE = 0.25
"""Share of the subnets that the second stage evaluates; more if the front is larger."""


def n_full(evaluations: int) -> int:
    """Number of subnets in the second stage, unless the front is larger."""
    return min(evaluations, max(MIN_SAMPLES, math.ceil(FULL_SHARE * evaluations)))


def second_stage(
    result: SearchResult, evaluate: Evaluate, origin: str, deadline: float | None
) -> SearchResult:
    """The result of a search whose best subnets are evaluated on all images.

    Args:
        result: the result of the first stage.
        evaluate: evaluates subnets on all images.
        origin: purpose of the evaluation, stored in the archive.
        deadline: as in `evaluate_until`; the best subnets come first.

    Raises:
        LimitsNotMetError: no subnet satisfies the limits on all images.
    """
    rows = _selected(result.history(result.problem))
    archs = result.evaluations["arch"].iloc[rows].tolist()
    least = min(len(archs), MIN_SAMPLES)
    measured = evaluate_until(evaluate, archs, origin, deadline, least)
    full = result.evaluated_again(rows[: len(measured)], measured)
    check_measured_limits(result.problem, full.history(result.problem))
    return full


def _selected(history: History) -> NDArray[np.intp]:
    """Rows of the smallest and the largest subnet, which fix the reference point, and of the best subnets."""
    order = np.argsort(crowded_order(history, np.arange(len(history))))
    best = order[: max(len(history.front), n_full(len(history)))]
    corners = np.arange(min(2, len(history)))
    return np.array(list(dict.fromkeys([*corners.tolist(), *best.tolist()])), dtype=np.intp)
