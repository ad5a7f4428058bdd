"""Latency of every layer, inferred from a few measured whole networks.

If a runtime fuses blocks, or a tool measures the device, only whole networks can be timed. Twenty of them do
not determine the latencies of a hundred layers, so the model has strong priors:
1. The latency of a layer is a sum of non-negative costs of its launch, its memory traffic and its MACs (see
   `roofline`): a dozen parameters for the whole device, fitted to the relative error. Large errors count
   linearly, so that disturbed measurements have little influence.
2. Each layer deviates from that by a factor that is similar for layers of similar shape: a Gaussian process
   over layers, observed as a sum over each network. Its standard deviation has the smallest leave-one-out
   error.
The result is a latency for each layer, and so for each block.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import nnls
from sklearn.base import BaseEstimator, RegressorMixin

from hw_profiles.latency_models.base import Additive, BlockValue, Network, check_latencies
from hw_profiles.latency_models.prediction_error import Latencies
from hw_profiles.latency_models.roofline import KINDS, Shape, shapes, terms
from search_spaces import Block

Matrix = NDArray[np.float64]

SPREADS = (0.1, 0.3, 0.6)
"""Candidates for the standard deviation of layers, relative to their cost."""
LENGTH_SCALE = 2.0
"""The deviations of layers are similar within about two doublings of their channels or size."""
_SMALL_ERROR = 0.01
"""Relative errors above this count linearly, not squared."""
_PENALTY = 0.003
"""Ridge penalty on the costs, in units where 1 explains the whole latency: it decides between costs that the
data cannot distinguish."""
_MIN_NOISE = 0.003
_ITERATIONS = 40


class LayerFit(Additive, RegressorMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn is untyped
    """Latency of networks as a sum over their layers; see the module.

    Args:
        table_ms: latency of a block in the table of the device. It is then one more cost, shared by the
            layers of the block.
    """

    def __init__(self, table_ms: BlockValue | None = None) -> None:
        self.table_ms = table_ms

    def fit(self, X: Sequence[Network], y: ArrayLike) -> Self:  # noqa: N803  scikit-learn's names
        """See `LatencyEstimator`."""
        latency_ms = check_latencies(X, y)
        costs = np.array([np.sum([self._terms(b).sum(axis=0) for b in network], axis=0) for network in X])
        costs = np.column_stack([np.ones(len(X)), costs])
        intercept, *self._costs = robust_costs(costs, latency_ms)
        self.intercept_ms = float(intercept)
        base = costs @ [intercept, *self._costs]
        self._shapes = list(dict.fromkeys(shape for net in X for block in net for shape in shapes(block)))
        shares = self._layer_ms(X) / base[:, None]
        self._weights = _deviations(
            shares, self._correlation_with_fitted(self._shapes), latency_ms / base - 1
        )
        self._deviation = lru_cache(maxsize=None)(self._deviation_of)
        return self

    def block_ms(self, block: Block) -> float:
        """See `Additive`."""
        deviations = [self._deviation(shape) for shape in shapes(block)]
        return float(self._terms(block) @ self._costs @ np.add(1.0, deviations))

    def _terms(self, block: Block) -> Matrix:
        """The terms of each layer of a block, shape (n_layers, n_terms)."""
        rows = np.array([terms(shape) for shape in shapes(block)])
        if self.table_ms is None:
            return rows
        return np.column_stack([rows, np.full(len(rows), self.table_ms(block) / len(rows))])

    def _layer_ms(self, networks: Sequence[Network]) -> Matrix:
        """Cost of the layers of each shape in each network, shape (n_networks, n_shapes)."""
        column = {shape: i for i, shape in enumerate(self._shapes)}
        result = np.zeros((len(networks), len(column)))
        for row, network in zip(result, networks, strict=True):
            for block in network:
                costs = self._terms(block) @ self._costs
                np.add.at(row, [column[shape] for shape in shapes(block)], costs)
        return result

    def _correlation_with_fitted(self, others: Sequence[Shape]) -> Matrix:
        """Correlation of the deviations of layers with the fitted ones, shape (len(others), n_shapes)."""
        return _correlation(others, self._shapes)

    def _deviation_of(self, shape: Shape) -> float:
        return float(self._correlation_with_fitted([shape])[0] @ self._weights)


def robust_costs(terms: Matrix, latency_ms: Latencies) -> Matrix:
    """Fit non-negative costs to the relative error; errors above `_SMALL_ERROR` count linearly.

    Huber's loss by iteratively reweighted least squares (Holland and Welsch 1977).

    Args:
        terms: terms of each network, shape (n, n_terms), not negative.
        latency_ms: shape (n,).

    Returns:
        The costs in ms for one unit of each term, shape (n_terms,).
    """
    totals = terms.mean(axis=0)
    unit = np.divide(np.median(latency_ms), totals, out=np.zeros_like(totals), where=totals > 0)
    relative = terms * unit / latency_ms[:, None]
    n, n_terms = relative.shape
    penalty = np.sqrt(_PENALTY) * np.eye(n_terms)
    weights, costs = np.ones(n), np.zeros(n_terms)
    for _ in range(_ITERATIONS):
        previous = costs
        costs, _norm = nnls(
            np.vstack([relative * weights[:, None], penalty]), np.append(weights, np.zeros(n_terms))
        )
        if np.abs(costs - previous).max() < 1e-4:
            break
        weights = 1 / np.sqrt(np.maximum(np.abs(relative @ costs - 1) / _SMALL_ERROR, 1))
    result: Matrix = costs * unit
    return result


def _correlation(left: Sequence[Shape], right: Sequence[Shape]) -> Matrix:
    """exp(-½ distance² / LENGTH_SCALE²) between layers of the same kind, otherwise 0."""
    places = [np.array([shape.place for shape in side]) / LENGTH_SCALE for side in (left, right)]
    kinds = [np.array([KINDS.index(shape.kind) for shape in side]) for side in (left, right)]
    squares = (
        (places[0] ** 2).sum(axis=1)[:, None] + (places[1] ** 2).sum(axis=1) - 2 * places[0] @ places[1].T
    )
    alike: Matrix = np.exp(-0.5 * np.maximum(squares, 0)) * (kinds[0][:, None] == kinds[1])
    return alike


def _deviations(shares: Matrix, alike: Matrix, errors: Latencies) -> Matrix:
    """Weights of the correlations in the deviation of a layer, shape (n_shapes,).

    Args:
        shares: share of the layers of each shape in the latency of each network, (n, n_shapes).
        alike: correlation of the deviations of shapes, (n_shapes, n_shapes).
        errors: relative errors to be explained by the deviations, (n,).
    """
    noise = max(1.4826 * float(np.median(np.abs(errors))), _MIN_NOISE)
    seen = shares @ alike @ shares.T
    fits = [_robust_process(spread**2 * seen, errors, noise) for spread in SPREADS]
    best = min(range(len(SPREADS)), key=lambda i: fits[i][1])
    weights: Matrix = SPREADS[best] ** 2 * shares.T @ fits[best][0]
    return weights


def _robust_process(covariance: Matrix, errors: Latencies, noise: float) -> tuple[Matrix, float]:
    """Fit a Gaussian process robustly; returns its weights and its mean leave-one-out error.

    Leave-one-out in closed form: Rasmussen and Williams, Gaussian Processes for Machine Learning (2006),
    §5.4.2.
    """
    pull = np.ones(len(errors))
    for _ in range(_ITERATIONS):
        inverse = np.linalg.inv(covariance + np.diag(noise**2 / pull))
        weights = inverse @ errors
        rest = np.abs(errors - covariance @ weights) / noise
        previous, pull = pull, 1 / np.maximum(rest, 1)
        if np.abs(pull - previous).max() < 1e-3:
            break
    return weights, float(np.abs(weights / np.diag(inverse)).mean())
