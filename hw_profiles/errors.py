"""How far predictions are from measurements: one record for tables and for their rivals."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

Latencies = NDArray[np.float64]
"""In ms, shape (n,)."""


class ErrorRecord(BaseModel, frozen=True):
    """Errors relative to the measured values, over `n` networks."""

    n: int
    mape: float
    """Mean absolute error, a fraction."""
    bias: float
    """Mean signed error, a fraction; positive: predicted too slow."""
    within_5_percent: float
    """Share of networks with an absolute error of at most 5 %."""
    within_10_percent: float
    spearman: float
    kendall_tau: float


def compare(predicted_ms: Latencies, measured_ms: Latencies) -> ErrorRecord:
    """The errors of predicted against measured latencies, shapes (n,)."""
    from scipy.stats import kendalltau, spearmanr  # slow to import, and who reads a record needs none of it

    error = predicted_ms / measured_ms - 1
    size = np.abs(error)
    return ErrorRecord(
        n=len(error),
        mape=float(size.mean()),
        bias=float(error.mean()),
        within_5_percent=float((size <= 0.05).mean()),
        within_10_percent=float((size <= 0.10).mean()),
        spearman=float(spearmanr(predicted_ms, measured_ms).statistic),
        kendall_tau=float(kendalltau(predicted_ms, measured_ms).statistic),
    )
