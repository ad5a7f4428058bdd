"""Selection of subnets from a front."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pandas.api.types import is_numeric_dtype

from nas.search.problem.objectives import is_latency

Matrix = NDArray[np.float64]


def knee(minimised: Matrix) -> list[int]:
    """The row nearest to the ideal point, each objective scaled to 0..1 over the front (n, m)."""
    return [int(scaled_distance(minimised, minimised).argmin())]


def scaled_distance(points: Matrix, front: Matrix) -> NDArray[np.float64]:
    """Distance of `points` (n, m) from the ideal point of `front` (k, m), shape (n,).

    Objectives are scaled so that the front extends from 0 to 1 in each.
    """
    span = np.ptp(front, axis=0)
    scaled = (points - front.min(axis=0)) / np.where(span > 0, span, 1)
    distance: NDArray[np.float64] = np.linalg.norm(scaled, axis=1)
    return distance


PICKS: Mapping[str, Callable[[Matrix], list[int]]] = {
    "all": lambda minimised: list(range(len(minimised))),
    "knee": knee,
    "first": lambda minimised: [int(minimised[:, 0].argmin())],
    "last": lambda minimised: [int(minimised[:, -1].argmin())],
    "spread": lambda minimised: spread(minimised, 5),
}
"""Rules by name: all subnets, the best compromise, the best subnet in the first or in the last objective, or
five subnets spread over the last objective."""


def spread(minimised: Matrix, n: int) -> list[int]:
    """Up to `n` rows spread evenly over the order of the last objective, both ends included."""
    order = np.argsort(minimised[:, -1], kind="stable")
    places = np.unique(np.linspace(0, len(order) - 1, min(n, len(order))).round().astype(int))
    return [int(i) for i in order[places]]


def select(front: pd.DataFrame, minimised: Matrix, how: str) -> pd.DataFrame:
    """Rows of a front.

    Args:
        front: table with `arch_id` and `keeps_limits`; a subnet that violates a limit is selected only by id.
        minimised: minimised objectives of the rows, shape (n, m).
        how: a key of `PICKS`, or ids of subnets separated by commas.

    Raises:
        ValueError: no such rule or id, or no subnet satisfies the limits.
    """
    if how not in PICKS:
        ids = how.split(",")
        unknown = [i for i in ids if i not in set(front["arch_id"])]
        if unknown:
            raise ValueError(
                f"--pick must be one of {sorted(PICKS)} or ids of the front such as "
                f"{front['arch_id'].iloc[0]}, got {','.join(unknown)}"
            )
        return front[front["arch_id"].isin(ids)]
    kept = np.flatnonzero(front["keeps_limits"].to_numpy(dtype=bool))
    if len(kept) == 0:
        raise ValueError("no measured subnet of the front is within the limits; search with wider limits")
    return front.iloc[kept[PICKS[how](minimised[kept])]]


def minimised_columns(front: pd.DataFrame, objectives: Sequence[str], maximised: Sequence[str]) -> Matrix:
    """Minimised objectives of the rows of a front, with measured latencies where there are any; shape (n, m).

    Raises:
        ValueError: the table has no column for an objective, or the column is not numeric.
    """
    wrong = [name for name in objectives if name not in front or not is_numeric_dtype(front[name])]
    if wrong:
        raise ValueError(f"the front must have a number for each objective, got none for {', '.join(wrong)}")
    columns = []
    for name in objectives:
        values = front[name].to_numpy(dtype=np.float64)
        if is_latency(name):
            values = front["measured_latency_ms"].fillna(front[name]).to_numpy(dtype=np.float64)
        columns.append(-values if name in maximised else values)
    return np.stack(columns, axis=1)
