"""The error of predicted latencies."""

from __future__ import annotations

import math
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, BeforeValidator

Latencies = NDArray[np.float64]
"""Latencies in ms, shape (n,)."""


Figure = Annotated[float, BeforeValidator(lambda value: math.nan if value is None else value)]
"""A number; NaN is null in JSON."""


class ErrorRecord(BaseModel, frozen=True):
    """Errors relative to the measured values of `n` networks; NaN if there are too few or all are equal."""

    n: int
    mape: Figure
    """Mean absolute error, a fraction."""
    bias: Figure
    """Mean signed error, a fraction; positive if the predictions are too slow."""
    within_5_percent: Figure
    """Share of networks with an absolute error of at most 5 %."""
    within_10_percent: Figure
    spearman: Figure
    kendall_tau: Figure


class Slope(BaseModel, frozen=True):
    """The slope of a regression line, with its 95 % confidence interval."""

    value: Figure
    low: Figure
    high: Figure


class PrecisionErrors(BaseModel, frozen=True):
    """Errors of the predictions of a mixed profile, by the precision of the networks."""

    fp32: ErrorRecord
    int8: ErrorRecord
    mixed: ErrorRecord
    """Errors for networks with blocks of both precisions."""
    noise_floor: dict[str, Figure]
    """MAPE between two passes over the networks of each group; empty if only one pass was measured."""
    error_per_border: Slope
    """Change of the signed relative error with each border between precisions, over all networks."""


def line_slope(x: NDArray[np.float64], y: NDArray[np.float64]) -> Slope:
    """The slope of the line through points, shapes (n,); NaN with fewer than three points or equal `x`."""
    from scipy.stats import linregress, t  # slow to import

    if len(x) < 3 or len(set(x)) < 2:
        return Slope(value=math.nan, low=math.nan, high=math.nan)
    line = linregress(x, y)
    half = float(t.ppf(0.975, len(x) - 2) * line.stderr)
    return Slope(value=line.slope, low=line.slope - half, high=line.slope + half)


def compare(predicted_ms: Latencies, measured_ms: Latencies) -> ErrorRecord:
    """The errors of predicted against measured latencies, shapes (n,)."""
    from scipy.stats import kendalltau, spearmanr  # slow to import

    error = predicted_ms / measured_ms - 1
    size = np.abs(error)
    figures = dict.fromkeys(ErrorRecord.model_fields, math.nan)
    if len(error):
        figures |= {
            "mape": size.mean(),
            "bias": error.mean(),
            "within_5_percent": (size <= 0.05).mean(),
            "within_10_percent": (size <= 0.10).mean(),
        }
    if len(set(predicted_ms)) > 1 and len(set(measured_ms)) > 1:  # otherwise there is no order
        figures |= {
            "spearman": spearmanr(predicted_ms, measured_ms).statistic,
            "kendall_tau": kendalltau(predicted_ms, measured_ms).statistic,
        }
    return ErrorRecord.model_validate(figures | {"n": len(error)})
