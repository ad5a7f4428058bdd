"""The order of NSGA-II (Deb et al. 2002, §III): by violation, non-dominated rank and crowding distance."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pymoo.operators.survival.rank_and_crowding.metrics import calc_crowding_distance
from pymoo.util.nds.non_dominated_sorting import NonDominatedSorting

from nas.search.algorithms.history import History


def crowded_order(history: History, rows: NDArray[np.intp]) -> NDArray[np.intp]:
    """Place of each of the n `rows` of `history`, from 0 for the best to n - 1, shape (n,).

    Subnets are ordered by their violation of the limits, then by their non-dominated rank among the rows,
    then by their crowding distance, the largest first.
    """
    minimised, excess = history.minimised[rows], history.excess[rows]
    rank, room = np.zeros(len(rows)), np.zeros(len(rows))
    for number, front in enumerate(NonDominatedSorting().do(minimised)):
        rank[front], room[front] = number, calc_crowding_distance(minimised[front])
    place = np.zeros(len(rows), dtype=np.intp)
    place[np.lexsort((-room, rank, excess))] = np.arange(len(rows))
    return place
