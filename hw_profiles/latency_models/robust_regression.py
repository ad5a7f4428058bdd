"""From a sum over blocks to the latency of a whole network."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from hw_profiles.latency_models.prediction_error import Latencies

Number = TypeVar("Number", float, NDArray[np.float64])

_USUAL_ERROR = 0.01
"""Relative errors above this count linearly, not squared: a subnet disturbed while measured pulls little."""


class Affine(BaseModel, frozen=True):
    """latency_ms = slope × x + intercept_ms."""

    slope: float
    intercept_ms: float

    def __call__(self, x: Number) -> Number:
        """Latency in ms of one or many sums over blocks."""
        return self.slope * x + self.intercept_ms


def fit_affine(x: NDArray[np.float64], measured_ms: Latencies) -> Affine:
    """`fit_linear` with a single number of each network, shape (n,)."""
    slopes, intercept_ms = fit_linear(x[:, None], measured_ms)
    return Affine(slope=float(slopes[0]), intercept_ms=intercept_ms)


def fit_linear(x: NDArray[np.float64], measured_ms: Latencies) -> tuple[NDArray[np.float64], float]:
    """The plane through whole networks with the smallest relative errors, robust against outliers.

    Args:
        x: sums over blocks (ms, MACs, parameters), shape (n, k), n > k; more of one never takes less time.
        measured_ms: latency of the network alone in a fresh process, shape (n,).

    Returns:
        What each unit of x takes in ms, shape (k,), and what every network takes beside that.
    """
    from scipy.optimize import least_squares  # slow to import, and who only reads a table needs none of it

    middle = np.median(measured_ms)
    scale = middle / np.median(x, axis=0)  # so that all unknowns are near 1, whatever the units of x

    def residuals(plane: NDArray[np.float64]) -> NDArray[np.float64]:
        error: NDArray[np.float64] = (x * scale @ plane[:-1] + plane[-1] * middle) / measured_ms - 1
        return error

    k = x.shape[1]
    start = [1 / k] * k + [0.0]
    lowest = [0.0] * k + [-np.inf]
    plane = least_squares(residuals, start, bounds=(lowest, np.inf), loss="soft_l1", f_scale=_USUAL_ERROR).x
    return plane[:-1] * scale, float(plane[-1] * middle)
