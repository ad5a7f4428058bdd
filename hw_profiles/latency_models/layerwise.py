"""Latency of every layer, inferred from a few measured whole networks.

Where a runtime fuses, or a device is far away, only whole networks can be timed. Twenty of them say little
about a hundred layers, so what is known beforehand does most of the work:
1. A layer's time is a sum of non-negative costs of its launch, its memory traffic and its MACs (see
   `layer_terms`): a dozen numbers for the whole device, fitted to the relative error. Large errors count
   linearly, so that a disturbed measurement pulls little.
2. Each layer deviates from that by a factor that is alike for layers of like shape: a Gaussian process over
   layers, of which a network sees the sum. Its spread is the one with the smallest leave-one-out error.
The result is a time for each layer, hence a table of blocks like one that was measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import nnls
from sklearn.base import BaseEstimator, RegressorMixin

from hw_profiles.latency_models.base import Additive, BlockValue, Network, checked
from hw_profiles.latency_models.prediction_error import Latencies
from hw_profiles.latency_models.roofline import KINDS, Shape, shapes, terms
from search_spaces import Block

Matrix = NDArray[np.float64]

SPREADS = (0.1, 0.3, 0.6)
"""Standard deviations, relative to a layer's cost, by which layers may deviate."""
LENGTH_SCALE = 2.0
"""Layers deviate alike within about two doublings of their channels or size."""
_SMALL_ERROR = 0.01
"""Relative errors above this count linearly, not squared."""
_PENALTY = 0.003
"""Of the costs squared, where 1 explains the whole latency: decides between costs that the data cannot tell
apart."""
_MIN_NOISE = 0.003
_ITERATIONS = 40


class LayerFit(Additive, RegressorMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn is untyped
    """Latency of networks as a sum over their layers; see the module.

    Args:
        table_ms: a table's latency of one block. The fit is then on top of the table: a block's table value
            is one more cost, shared by its layers.
    """

    def __init__(self, table_ms: BlockValue | None = None) -> None:
        self.table_ms = table_ms

    def fit(self, X: Sequence[Network], y: ArrayLike) -> Self:  # noqa: N803  scikit-learn's names
        """See `LatencyEstimator`."""
        latency_ms = checked(X, y)
        costs = np.array([np.sum([self._terms(b).sum(axis=0) for b in network], axis=0) for network in X])
        costs = np.column_stack([np.ones(len(X)), costs])
        intercept, *self._costs = robust_costs(costs, latency_ms)
        self.intercept_ms = float(intercept)
        base = costs @ [intercept, *self._costs]
        self._shapes = list(dict.fromkeys(shape for net in X for block in net for shape in shapes(block)))
        shares = self._layer_ms(X) / base[:, None]
        self._weights = _deviations(shares, self._alike(self._shapes), latency_ms / base - 1)
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

    def _alike(self, others: Sequence[Shape]) -> Matrix:
        """Correlation of the deviations of layers with those fitted, shape (len(others), n_shapes)."""
        return _correlation(others, self._shapes)

    def _deviation_of(self, shape: Shape) -> float:
        return float(self._alike([shape])[0] @ self._weights)


def robust_costs(terms: Matrix, latency_ms: Latencies) -> Matrix:
    """The non-negative costs with the smallest relative errors, errors above `_SMALL_ERROR` counted linearly.

    Huber's loss by iteratively reweighted least squares (Holland and Welsch 1977).

    Args:
        terms: of each network, shape (n, n_terms), none negative.
        latency_ms: shape (n,).

    Returns:
        ms for one unit of each term, shape (n_terms,).
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
    """exp(-½ distance² / LENGTH_SCALE²) between layers of one kind, 0 otherwise."""
    places = [np.array([shape.place for shape in side]) / LENGTH_SCALE for side in (left, right)]
    kinds = [np.array([KINDS.index(shape.kind) for shape in side]) for side in (left, right)]
    squares = (
        (places[0] ** 2).sum(axis=1)[:, None] + (places[1] ** 2).sum(axis=1) - 2 * places[0] @ places[1].T
    )
    alike: Matrix = np.exp(-0.5 * np.maximum(squares, 0)) * (kinds[0][:, None] == kinds[1])
    return alike


def _deviations(shares: Matrix, alike: Matrix, errors: Latencies) -> Matrix:
    """How a layer's deviation follows from its correlation with the known layers, shape (n_shapes,).

    Args:
        shares: of the layers of each shape in each network's latency, (n, n_shapes).
        alike: correlation of the deviations of shapes, (n_shapes, n_shapes).
        errors: relative, that the deviations shall explain, (n,).
    """
    noise = max(1.4826 * float(np.median(np.abs(errors))), _MIN_NOISE)
    seen = shares @ alike @ shares.T
    fits = [_robust_process(spread**2 * seen, errors, noise) for spread in SPREADS]
    best = min(range(len(SPREADS)), key=lambda i: fits[i][1])
    weights: Matrix = SPREADS[best] ** 2 * shares.T @ fits[best][0]
    return weights


def _robust_process(covariance: Matrix, errors: Latencies, noise: float) -> tuple[Matrix, float]:
    """Weights of a Gaussian process whose large errors count linearly, and its mean leave-one-out error.

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
