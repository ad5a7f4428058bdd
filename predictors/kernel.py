"""The covariance of `GaussianProcess`, and how its few numbers are found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve, cholesky
from scipy.linalg.lapack import dpotri
from scipy.optimize import minimize

Matrix = NDArray[np.float64]
Columns = slice | Sequence[int]

PRIOR = {"smooth": 0.3, "linear": 0.6, "signal": 1.0, "part_smooth": 0.3, "part_signal": 0.3, "noise": 0.05}
"""Medians of the log-normal priors, for standardised features and targets; all groups share `smooth` and
`linear`."""
PRIOR_SPREAD = 1.5
"""Standard deviation of the logarithm under the priors."""
NOISE_BOUNDS = (1e-3, 1.0)
"""Variance of the noise / variance of the targets."""


@dataclass(frozen=True)
class Kernel:
    """See `GaussianProcess` for the formula."""

    groups: Sequence[Columns]
    parts: Sequence[Columns]
    smooth: Matrix
    """Weight of each group in the smooth term, shape (n_groups,)."""
    linear: Matrix
    """Weight of each group in the linear term, shape (n_groups,)."""
    signal: float
    """Variance of the smooth term."""
    part_smooth: float
    """Weight of the columns of a part."""
    part_signal: float
    """Variance of the sum over parts."""
    noise: float
    """Variance of the noise."""

    def __call__(self, a: Matrix, b: Matrix) -> Matrix:
        """Covariances without noise, shape (len(a), len(b))."""
        smooth, linear = (self._per_column(weights, a.shape[1]) for weights in (self.smooth, self.linear))
        distances = squared_distances(a * np.sqrt(smooth), b * np.sqrt(smooth))
        covariance: Matrix = self.signal * np.exp(-0.5 * distances) + (a * linear) @ b.T
        for part in self.parts:
            near = np.exp(-0.5 * self.part_smooth * mean_squared_distances(a[:, part], b[:, part]))
            covariance += self.part_signal / len(self.parts) * near
        return covariance

    def variance(self, a: Matrix) -> Matrix:
        """The diagonal of the covariances of `a` with itself, shape (len(a),)."""
        smooth = self.signal + self.part_signal * (len(self.parts) > 0)
        diagonal: Matrix = smooth + a**2 @ self._per_column(self.linear, a.shape[1])
        return diagonal

    def _per_column(self, weights: Matrix, n_columns: int) -> Matrix:
        """The weights of the groups, shared out among their columns."""
        result = np.zeros(n_columns)
        for weight, columns in zip(weights, self.groups, strict=True):
            result[columns] = weight / max(1, result[columns].size)
        return result


def fit_kernel(
    inputs: Matrix, targets: Matrix, groups: Sequence[Columns], parts: Sequence[Columns]
) -> Kernel:
    """The kernel of highest posterior density (Rasmussen and Williams 2006, §5.4.1).

    All matrices are symmetric; only their lower triangles are kept, as rows of numbers.

    Args:
        inputs: standardised, shape (n, n_features).
        targets: standardised, shape (n,).
        groups: as in `GaussianProcess`.
        parts: as in `GaussianProcess`.
    """
    n, k = len(inputs), len(groups)
    lower = np.tril_indices(n)
    diagonal = lower[0] == lower[1]

    def packed(matrices: list[Matrix]) -> Matrix:
        return np.array([matrix[lower] for matrix in matrices]).reshape(len(matrices), len(diagonal))

    distances = packed([mean_squared_distances(inputs[:, g], inputs[:, g]) for g in groups])
    products = packed([inputs[:, g] @ inputs[:, g].T / max(1, inputs[:, g].shape[1]) for g in groups])
    in_parts = packed([mean_squared_distances(inputs[:, p], inputs[:, p]) for p in parts])
    medians = {**PRIOR, "smooth": PRIOR["smooth"] / k, "linear": PRIOR["linear"] / k}
    median = np.log(_flat(medians, k))

    def loss(theta: Matrix) -> tuple[float, Matrix]:
        """Minus the log posterior of the logarithms of all numbers of the kernel, and its gradient."""
        kernel = _kernel(theta, groups, parts)
        smooth = kernel.signal * np.exp(-0.5 * (kernel.smooth @ distances))
        near = np.exp(-0.5 * kernel.part_smooth * in_parts) * (kernel.part_signal / max(1, len(parts)))
        covariance = np.zeros((n, n))
        covariance[lower] = smooth + kernel.linear @ products + near.sum(axis=0) + kernel.noise * diagonal
        factor = cholesky(covariance, lower=True, overwrite_a=True, check_finite=False)
        weights = cho_solve((factor, True), targets, check_finite=False)
        inverse, _ = dpotri(factor, lower=1)
        # the derivative by each element, with those above the diagonal added to their mirror images
        slope = (weights[lower[0]] * weights[lower[1]] - inverse[lower]) * np.where(diagonal, 1.0, 2.0)
        gradient = np.concatenate(
            [
                -0.5 * kernel.smooth * (distances @ (slope * smooth)),
                kernel.linear * (products @ slope),
                [smooth @ slope, -0.5 * kernel.part_smooth * np.vdot(in_parts, near * slope)],
                [(near @ slope).sum(), kernel.noise * slope[diagonal].sum()],
            ]
        )
        surprise = (theta - median) / PRIOR_SPREAD
        value = 0.5 * targets @ weights + np.log(np.diag(factor)).sum() + 0.5 * surprise @ surprise
        return float(value), -0.5 * gradient + surprise / PRIOR_SPREAD

    bounds = [(-12.0, 6.0)] * (2 * k) + [(-6.0, 6.0)] * 3 + [tuple(np.log(NOISE_BOUNDS))]
    found = minimize(loss, median, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 60})
    return _kernel(found.x, groups, parts)


def squared_distances(a: Matrix, b: Matrix) -> Matrix:
    """Squared Euclidean distances of the rows of `a` and `b`, shape (len(a), len(b))."""
    distances = (-2 * a) @ b.T
    distances += (a**2).sum(axis=1)[:, None]
    distances += (b**2).sum(axis=1)
    return np.maximum(distances, 0.0, out=distances)


def mean_squared_distances(a: Matrix, b: Matrix) -> Matrix:
    """The same, divided by the number of columns."""
    distances = squared_distances(a, b)
    distances /= max(1, a.shape[1])
    return distances


def _flat(numbers: dict[str, float], k: int) -> list[float]:
    """One number for each element of theta, in the order that `_kernel` reads."""
    single = [numbers[name] for name in ("signal", "part_smooth", "part_signal", "noise")]
    return [numbers["smooth"]] * k + [numbers["linear"]] * k + single


def _kernel(theta: Matrix, groups: Sequence[Columns], parts: Sequence[Columns]) -> Kernel:
    numbers, k = np.exp(theta), len(groups)
    return Kernel(groups, parts, numbers[:k], numbers[k : 2 * k], *numbers[2 * k :].tolist())
