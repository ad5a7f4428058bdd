"""Fronts and the hypervolume that they cover. Everything here is minimised."""

from __future__ import annotations

import heapq

import numpy as np
from numpy.typing import NDArray
from pymoo.indicators.hv import HV
from pymoo.util.nds.non_dominated_sorting import NonDominatedSorting

Matrix = NDArray[np.float64]
Vector = NDArray[np.float64]

MARGIN = 1.05
"""Factor by which the reference point is worse than the worse corner."""


def reference_point(smallest: Vector, largest: Vector) -> Vector:
    """The point that bounds the hypervolume: the worse of two subnets in each objective, 5 % worse still.

    Args:
        smallest: minimised objectives of the smallest subnet, shape (m,).
        largest: those of the largest.
    """
    worse = np.maximum(smallest, largest)
    return np.where(worse > 0, worse * MARGIN, worse / MARGIN)  # a maximised objective is negative here


def nondominated(points: Matrix) -> NDArray[np.intp]:
    """Indices of the rows of `points` (n, m) that no other row dominates; of equal rows the first."""
    if len(points) == 0:
        return np.zeros(0, dtype=np.intp)
    _, first = np.unique(points, axis=0, return_index=True)
    first.sort()
    front = NonDominatedSorting().do(points[first], only_non_dominated_front=True)
    return np.sort(first[front])


def hypervolume(points: Matrix, reference: Vector) -> float:
    """The volume that `points` (n, m) dominate inside `reference` (m,); points outside add nothing."""
    inside = points[(points < reference).all(axis=1)]
    return float(HV(ref_point=reference)(inside)) if len(inside) else 0.0


def greedy_batch(front: Matrix, candidates: Matrix, reference: Vector, n: int) -> list[int]:
    """Up to `n` candidates that one after the other add most hypervolume to `front`.

    Gains only shrink as the front grows, so a candidate is looked at again only when its old gain leads
    (lazy greedy, Minoux 1978).

    Args:
        front: points that are there already, shape (k, m).
        candidates: shape (c, m).
        reference: shape (m,).
        n: how many to choose.

    Returns:
        Indices of candidates in the order of choice; fewer than `n` where no other adds anything.
    """
    chosen: list[int] = []
    covered = hypervolume(front, reference)

    def gain(index: int) -> float:
        return hypervolume(np.vstack([front, candidates[index]]), reference) - covered

    queue = [(-gain(index), index) for index in range(len(candidates))]
    heapq.heapify(queue)
    while queue and len(chosen) < n:
        _, index = heapq.heappop(queue)
        current = gain(index)
        if queue and current < -queue[0][0]:
            heapq.heappush(queue, (-current, index))
        elif current > 0:
            chosen.append(index)
            front = np.vstack([front, candidates[index]])
            covered += current
        else:
            break
    return chosen
