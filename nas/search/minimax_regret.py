"""One subnet for several devices, by minimax regret."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nas.search.problem.hypervolume import nondominated
from nas.search.select import scaled_distance

Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class MinimaxRegret:
    """The subnet whose largest regret over all devices is smallest."""

    row: int
    regret: Mapping[str, float]
    """By device: the distance of this subnet from the ideal point of the device's front, minus the distance
    of the nearest subnet, with each objective scaled to 0..1 over the front."""

    @property
    def worst(self) -> float:
        """The largest regret."""
        return max(self.regret.values())


def minimax_regret(minimised: Mapping[str, Matrix]) -> MinimaxRegret:
    """The row whose largest regret is smallest (minimax regret, Savage 1951).

    Args:
        minimised: by device, the objectives of the same subnets, all of which keep the limits, shape (n, m).
    """
    regrets = {}
    for device, points in minimised.items():
        distance = scaled_distance(points, points[nondominated(points)])
        regrets[device] = distance - distance.min()
    row = int(np.max(list(regrets.values()), axis=0).argmin())
    return MinimaxRegret(row, {device: float(values[row]) for device, values in regrets.items()})
