"""From a sum over blocks to the latency of a whole network."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from hw_profiles.latency_models.prediction_error import Latencies

Number = TypeVar("Number", float, NDArray[np.float64])

_TYPICAL_ERROR = 0.01
"""Relative errors above this count linearly, not squared: disturbed measurements have little influence."""


class Affine(BaseModel, frozen=True):
    """latency_ms = slope × x + intercept_ms."""

    slope: float
    intercept_ms: float

    def __call__(self, x: Number) -> Number:
        """Latency in ms of one or many sums over blocks."""
        return self.slope * x + self.intercept_ms


IDENTITY = Affine(slope=1.0, intercept_ms=0.0)


def fit_affine(x: NDArray[np.float64], measured_ms: Latencies) -> Affine:
    """`fit_linear` with one value for each network, shape (n,)."""
    slopes, intercept_ms = fit_linear(x[:, None], measured_ms)
    return Affine(slope=float(slopes[0]), intercept_ms=intercept_ms)


def fit_linear(x: NDArray[np.float64], measured_ms: Latencies) -> tuple[NDArray[np.float64], float]:
    """Fit a plane to whole networks by their relative errors, robust against outliers.

    Args:
        x: sums over blocks (ms, MACs, parameters), shape (n, k), n > k, not negative. The slopes are not
            negative, and 0 for a column of zeros.
        measured_ms: latency of the network alone in a fresh process, shape (n,).

    Returns:
        The slopes in ms for each unit of x, shape (k,), and the intercept in ms.
    """
    from scipy.optimize import least_squares  # slow to import

    middle = np.median(measured_ms)
    typical = x.mean(axis=0)
    scale = np.divide(middle, typical, out=np.zeros_like(typical), where=typical > 0)
    # the scale makes all parameters near 1 in any unit of x

    def residuals(plane: NDArray[np.float64]) -> NDArray[np.float64]:
        error: NDArray[np.float64] = (x * scale @ plane[:-1] + plane[-1] * middle) / measured_ms - 1
        return error

    k = x.shape[1]
    start = [1 / k] * k + [0.0]
    lowest = [0.0] * k + [-np.inf]
    plane = least_squares(residuals, start, bounds=(lowest, np.inf), loss="soft_l1", f_scale=_TYPICAL_ERROR).x
    return plane[:-1] * scale, float(plane[-1] * middle)
