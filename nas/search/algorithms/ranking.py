"""The order of NSGA-II (Deb et al. 2002, §III): limits first, then rank, then room on the front."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pymoo.operators.survival.rank_and_crowding.metrics import calc_crowding_distance
from pymoo.util.nds.non_dominated_sorting import NonDominatedSorting

from nas.search.algorithms.history import History


def crowded_order(history: History, rows: NDArray[np.intp]) -> NDArray[np.intp]:
    """Places 0..n-1 of the n `rows` of `history`, the best first.

    The less a subnet exceeds the limits, the better; then the lower its non-dominated rank among the rows;
    then the farther its neighbours on the front.
    """
    minimised, excess = history.minimised[rows], history.excess[rows]
    rank, room = np.zeros(len(rows)), np.zeros(len(rows))
    for number, front in enumerate(NonDominatedSorting().do(minimised)):
        rank[front], room[front] = number, calc_crowding_distance(minimised[front])
    place = np.zeros(len(rows), dtype=np.intp)
    place[np.lexsort((-room, rank, excess))] = np.arange(len(rows))
    return place
