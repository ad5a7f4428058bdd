"""The error of predicted latencies."""

from __future__ import annotations

import math
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, BeforeValidator

Latencies = NDArray[np.float64]
"""In ms, shape (n,)."""


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
