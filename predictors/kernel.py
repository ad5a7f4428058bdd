"""The kernel of `GaussianProcess`, and the estimation of its parameters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve, cholesky
from scipy.linalg.lapack import dpotri
from scipy.optimize import minimize

Matrix = NDArray[np.float64]
Columns = slice | Sequence[int]

PRIOR = {"smooth": 0.3, "linear": 0.6, "signal": 1.0, "noise": 0.05}
"""Medians of the log-normal priors for standardized features and targets; `smooth` and `linear` are sums over
groups."""
PRIOR_SPREAD = 1.5
"""Standard deviation of the logarithm of a parameter under its prior."""
NOISE_BOUNDS = (1e-5, 1.0)
"""Bounds of the variance of the noise relative to that of the targets. Evaluations on the same images have
nearly no noise."""


class Family(NamedTuple):
    """Parts of the inputs with independent contributions."""

    parts: Sequence[Columns]
    """Columns of each part."""
    smooth: float = 0.3
    """Prior median of the weight of a part's columns: small for smooth functions, large for categories."""
    signal: float = 0.3
    """Prior median of the variance of the sum over the parts."""


@dataclass(frozen=True)
class Kernel:
    """A kernel with its parameters; see `GaussianProcess` for the formula."""

    groups: Sequence[Columns]
    families: Sequence[Family]
    smooth: Matrix
    """Weight of each group in the smooth term, shape (n_groups,)."""
    linear: Matrix
    """Weight of each group in the linear term, shape (n_groups,)."""
    part_smooth: Matrix
    """Weight of the columns of a part, shape (n_families,)."""
    part_signal: Matrix
    """Variance of the sum over the parts of each family, shape (n_families,)."""
    signal: float
    """Variance of the smooth term."""
    noise: float
    """Variance of the noise."""

    def variance(self, a: Matrix) -> Matrix:
        """Variance of each row of `a` without noise, shape (len(a),)."""
        smooth = self.signal + self.part_signal.sum()
        diagonal: Matrix = smooth + a**2 @ self._per_column(self.linear, a.shape[1])
        return diagonal

    def part_term(self, f: int, a: Matrix, b: Matrix) -> Matrix:
        """Covariances of a part of family `f`, shape (len(a), len(b)).

        Args:
            f: index of the family.
            a: columns of the part, shape (len(a), n_columns).
            b: columns of the part, shape (len(b), n_columns).
        """
        distances = mean_squared_distances(a, b)
        variance: float = self.part_signal[f] / len(self.families[f].parts)
        term: Matrix = variance * np.exp(-0.5 * self.part_smooth[f] * distances)
        return term

    def smooth_term(self, a: Matrix, b: Matrix) -> Matrix:
        """Covariances of the smooth term, shape (len(a), len(b))."""
        root = np.sqrt(self._per_column(self.smooth, a.shape[1]))
        distances = squared_distances(a * root, b * root)
        np.exp(np.multiply(distances, -0.5, out=distances), out=distances)
        return np.multiply(distances, self.signal, out=distances)

    def linear_term(self, a: Matrix) -> Matrix:
        """Scale `a` so that its product with inputs `b`, `a @ b.T`, is the linear term of covariances."""
        return a * self._per_column(self.linear, a.shape[1])

    def _per_column(self, weights: Matrix, n_columns: int) -> Matrix:
        """Weights of columns: the weight of each group, divided by its number of columns."""
        result = np.zeros(n_columns)
        for weight, columns in zip(weights, self.groups, strict=True):
            result[columns] = weight / max(1, result[columns].size)
        return result


class Covariance:
    """Covariances of any inputs with fixed inputs, which are preprocessed once.

    The columns of a part have few different rows, so its terms are computed only for these rows.

    Args:
        kernel: the kernel.
        inputs: the fixed inputs, shape (n, n_features).
    """

    def __init__(self, kernel: Kernel, inputs: Matrix) -> None:
        self.kernel, self.inputs = kernel, inputs
        self._parts = [
            (f, part, *np.unique(inputs[:, part], axis=0, return_inverse=True))
            for f, family in enumerate(kernel.families)
            for part in family.parts
        ]

    def __call__(self, a: Matrix) -> Matrix:
        """Covariances with `a` without noise, shape (len(a), n)."""
        covariance = self.kernel.smooth_term(a, self.inputs)
        covariance += self.kernel.linear_term(a) @ self.inputs.T
        for f, part, rows, inverse in self._parts:
            covariance += self.kernel.part_term(f, a[:, part], rows)[:, inverse]
        return covariance

    def weighted(self, a: Matrix, weights: Matrix) -> Matrix:
        """Covariances with `a` multiplied by `weights` (n,), shape (len(a),)."""
        total: Matrix = self.kernel.smooth_term(a, self.inputs) @ weights
        total += self.kernel.linear_term(a) @ (self.inputs.T @ weights)
        for f, part, rows, inverse in self._parts:
            total += self.kernel.part_term(f, a[:, part], rows) @ np.bincount(inverse, weights, len(rows))
        return total


def fit_kernel(
    inputs: Matrix, targets: Matrix, groups: Sequence[Columns], families: Sequence[Family]
) -> Kernel:
    """Fit a kernel by maximum a posteriori estimation (Rasmussen and Williams 2006, §5.4.1).

    All matrices are symmetric; only their lower triangles are stored, as vectors.

    Args:
        inputs: standardized features, shape (n, n_features).
        targets: standardized targets, shape (n,).
        groups: as in `GaussianProcess`.
        families: as in `GaussianProcess`.
    """
    n, k, f = len(inputs), len(groups), len(families)
    lower = np.tril_indices(n)
    diagonal = lower[0] == lower[1]

    def packed(matrices: list[Matrix]) -> Matrix:
        return np.array([matrix[lower] for matrix in matrices]).reshape(len(matrices), len(diagonal))

    distances = packed([mean_squared_distances(inputs[:, g], inputs[:, g]) for g in groups])
    products = packed([inputs[:, g] @ inputs[:, g].T / max(1, inputs[:, g].shape[1]) for g in groups])
    part_distances = [
        packed([mean_squared_distances(inputs[:, p], inputs[:, p]) for p in family.parts])
        for family in families
    ]
    buffers = [np.empty_like(squares) for squares in part_distances]
    of_groups = [PRIOR["smooth"] / k] * k + [PRIOR["linear"] / k] * k
    of_families = [family.smooth for family in families] + [family.signal for family in families]
    median = np.log([*of_groups, *of_families, PRIOR["signal"], PRIOR["noise"]])

    def loss(theta: Matrix) -> tuple[float, Matrix]:
        """Negative log posterior of the logarithms of all parameters of the kernel, and its gradient."""
        kernel = _kernel(theta, groups, families)
        smooth = kernel.signal * np.exp(-0.5 * (kernel.smooth @ distances))
        terms, slopes = [], []  # of each family: its covariances, and their derivatives by log(part_smooth)
        for squares, buffer, weight, signal in zip(
            part_distances, buffers, kernel.part_smooth, kernel.part_signal, strict=True
        ):
            near = np.exp(np.multiply(squares, -0.5 * weight, out=buffer), out=buffer)
            terms.append(signal / len(squares) * near.sum(axis=0))
            slopes.append(-0.5 * weight * signal / len(squares) * np.einsum("pi,pi->i", squares, near))
        covariance = np.zeros((n, n))
        covariance[lower] = sum(terms, smooth + kernel.linear @ products + kernel.noise * diagonal)
        factor = cholesky(covariance, lower=True, overwrite_a=True, check_finite=False)
        weights = cho_solve((factor, True), targets, check_finite=False)
        inverse, _ = dpotri(factor, lower=1)
        # the derivative by each element, with those above the diagonal added to their transposed elements
        slope = (weights[lower[0]] * weights[lower[1]] - inverse[lower]) * np.where(diagonal, 1.0, 2.0)
        gradient = np.concatenate(
            [
                -0.5 * kernel.smooth * (distances @ (slope * smooth)),
                kernel.linear * (products @ slope),
                [by_weight @ slope for by_weight in slopes],
                [term @ slope for term in terms],
                [smooth @ slope, kernel.noise * slope[diagonal].sum()],
            ]
        )
        deviation = (theta - median) / PRIOR_SPREAD
        value = 0.5 * targets @ weights + np.log(np.diag(factor)).sum() + 0.5 * deviation @ deviation
        return float(value), -0.5 * gradient + deviation / PRIOR_SPREAD

    bounds = [(-12.0, 6.0)] * (2 * k) + [(-10.0, 6.0)] * (2 * f + 1) + [tuple(np.log(NOISE_BOUNDS))]
    result = minimize(
        loss, median, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 60, "ftol": 1e-6}
    )
    return _kernel(result.x, groups, families)


def squared_distances(a: Matrix, b: Matrix) -> Matrix:
    """Squared Euclidean distances of the rows of `a` and `b`, shape (len(a), len(b))."""
    distances = (-2 * a) @ b.T
    distances += (a**2).sum(axis=1)[:, None]
    distances += (b**2).sum(axis=1)
    return np.maximum(distances, 0.0, out=distances)


def mean_squared_distances(a: Matrix, b: Matrix) -> Matrix:
    """Squared Euclidean distances, divided by the number of columns; shape (len(a), len(b))."""
    distances = squared_distances(a, b)
    distances /= max(1, a.shape[1])
    return distances


def _kernel(theta: Matrix, groups: Sequence[Columns], families: Sequence[Family]) -> Kernel:
    k, f = len(groups), len(families)
    smooth, linear, part_smooth, part_signal, scalars = np.split(np.exp(theta), np.cumsum([k, k, f, f]))
    return Kernel(groups, families, smooth, linear, part_smooth, part_signal, *scalars.tolist())
