"""From a sum over blocks to the latency of a whole network."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from hw_profiles.errors import Latencies

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
    """The line through whole networks with the smallest relative errors, robust against outliers.

    Args:
        x: sum over blocks (ms, or MACs for the rival), shape (n,), n >= 2.
        measured_ms: latency of the network alone in a fresh process, shape (n,).
    """
    from scipy.optimize import least_squares  # slow to import, and who only reads a table needs none of it

    middle = np.median(measured_ms)
    scale = middle / np.median(x)  # so that both unknowns are near 1, whatever the unit of x

    def residuals(line: NDArray[np.float64]) -> NDArray[np.float64]:
        error: NDArray[np.float64] = (line[0] * scale * x + line[1] * middle) / measured_ms - 1
        return error

    slope, intercept = least_squares(residuals, [1.0, 0.0], loss="soft_l1", f_scale=_USUAL_ERROR).x
    return Affine(slope=float(slope * scale), intercept_ms=float(intercept * middle))
