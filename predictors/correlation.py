"""Rank correlation of two sets of values of the same subnets."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import kendalltau

Vector = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Agreement:
    """Kendall's τ-b with the bounds of its confidence interval."""

    tau: float
    low: float
    high: float


def tau(a: ArrayLike, b: ArrayLike) -> float:
    """Kendall's τ-b of two sequences; 0 if one of them is constant."""
    x, y = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    value = float(kendalltau(x, y).statistic)
    return 0.0 if np.isnan(value) else value


def agreement(
    a: ArrayLike, b: ArrayLike, rng: np.random.Generator, resamples: int = 1000, confidence: float = 0.95
) -> Agreement:
    """Kendall's τ-b of two sequences with a percentile bootstrap interval (Efron and Tibshirani 1993, §13.3).

    Between predicted and measured values, τ-b is the quality of a predictor. Between two evaluations of the
    same subnets with different calibration images, it is the noise ceiling: the highest value that any
    predictor can be expected to reach.

    Args:
        a: one value per subnet, shape (n,).
        b: another value of each subnet, shape (n,).
        rng: random generator of the resamples.
        resamples: number of bootstrap resamples.
        confidence: coverage of the interval.

    Raises:
        ValueError: the lengths differ, or there are fewer than 3 values.
    """
    x, y = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if x.shape != y.shape or x.ndim != 1 or len(x) < 3:
        raise ValueError(f"Kendall's tau needs two sequences of >= 3 values, got {x.shape} and {y.shape}")
    draws = rng.integers(0, len(x), size=(resamples, len(x)))
    outside = (1 - confidence) / 2
    low, high = np.quantile(_resampled_tau(x, y, draws), [outside, 1 - outside])
    return Agreement(tau(x, y), float(low), float(high))


def _resampled_tau(x: Vector, y: Vector, draws: NDArray[np.int64]) -> Vector:
    """Kendall's τ-b of each resample, as `tau`; shape (resamples,).

    The pairs of values are compared once. In a resample, a pair counts as often as both of its values were
    drawn together.

    Args:
        x: shape (n,).
        y: shape (n,).
        draws: indices of the values of each resample, shape (resamples, n).
    """
    counts = np.stack([np.bincount(rows, minlength=len(x)) for rows in draws]).astype(np.float64)
    sign_x, sign_y = (np.sign(values[:, None] - values) for values in (x, y))

    def total(pairs: NDArray[np.float64]) -> Vector:
        result: Vector = np.einsum("ri,ri->r", counts @ pairs, counts)
        return result

    untied = np.sqrt(total(np.abs(sign_x)) * total(np.abs(sign_y)))
    return np.divide(total(sign_x * sign_y), untied, out=np.zeros(len(draws)), where=untied > 0)
