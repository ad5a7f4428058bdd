"""One subnet for several devices: the one whose worst regret is least."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nas.search.pick import scaled_distance
from nas.search.problem.hypervolume import nondominated

Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class Compromise:
    """A subnet that is to run on all devices."""

    row: int
    regret: Mapping[str, float]
    """By device: how much farther it lies from the device's ideal point than the device's own best
    compromise, in units of the front's extent."""

    @property
    def worst(self) -> float:
        """The largest regret."""
        return max(self.regret.values())


def best_for_all(minimised: Mapping[str, Matrix]) -> Compromise:
    """The row with the smallest worst regret (minimax regret, Savage 1951).

    Args:
        minimised: by device: objectives of the same subnets, all of which keep the limits, shape (n, m).
    """
    regrets = {}
    for device, points in minimised.items():
        distance = scaled_distance(points, points[nondominated(points)])
        regrets[device] = distance - distance.min()
    row = int(np.max(list(regrets.values()), axis=0).argmin())
    return Compromise(row, {device: float(values[row]) for device, values in regrets.items()})
