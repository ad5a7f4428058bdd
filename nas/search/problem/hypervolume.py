"""Pareto fronts and their hypervolume. All objectives here are minimised."""

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
    """Reference point of the hypervolume: in each objective, 5 % worse than the worse of two subnets.

    Args:
        smallest: minimised objectives of the smallest subnet, shape (m,).
        largest: minimised objectives of the largest subnet, shape (m,).
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
    """Choose up to `n` candidates, each of which adds most hypervolume to `front` and the chosen ones.

    Gains only shrink as the front grows, so a gain is computed again only for the candidate whose old gain is
    the largest (lazy greedy, Minoux 1978).

    Args:
        front: points of the present front, shape (k, m).
        candidates: points to choose from, shape (c, m).
        reference: reference point, shape (m,).
        n: largest number of candidates to choose.

    Returns:
        Indices of candidates in the order of choice; fewer than `n` if no other candidate adds hypervolume.
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
