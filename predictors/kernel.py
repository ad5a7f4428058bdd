"""The covariance of `GaussianProcess`, and how its few numbers are found."""

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
"""Medians of the log-normal priors, for standardised features and targets; all groups share `smooth` and
`linear`."""
PRIOR_SPREAD = 1.5
"""Standard deviation of the logarithm under the priors."""
NOISE_BOUNDS = (1e-5, 1.0)
"""Variance of the noise / variance of the targets; evaluations on the same images hardly have any."""


class Family(NamedTuple):
    """Parts of the inputs, each of which contributes by itself."""

    parts: Sequence[Columns]
    smooth: float = 0.3
    """Prior median of the weight of a part's columns: small for curves, large for categories."""
    signal: float = 0.3
    """Prior median of the variance of the sum over the parts."""


@dataclass(frozen=True)
class Kernel:
    """See `GaussianProcess` for the formula."""

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
        """The diagonal of the covariances of `a` with itself, shape (len(a),)."""
        smooth = self.signal + self.part_signal.sum()
        diagonal: Matrix = smooth + a**2 @ self._per_column(self.linear, a.shape[1])
        return diagonal

    def near(self, f: int, a: Matrix, b: Matrix) -> Matrix:
        """What a part of family `f` with the columns `a` and `b` adds to covariances."""
        distances = mean_squared_distances(a, b)
        share: float = self.part_signal[f] / len(self.families[f].parts)
        added: Matrix = share * np.exp(-0.5 * self.part_smooth[f] * distances)
        return added

    def smooth_term(self, a: Matrix, b: Matrix) -> Matrix:
        """What the groups add together."""
        root = np.sqrt(self._per_column(self.smooth, a.shape[1]))
        distances = squared_distances(a * root, b * root)
        np.exp(np.multiply(distances, -0.5, out=distances), out=distances)
        return np.multiply(distances, self.signal, out=distances)

    def linear_term(self, a: Matrix) -> Matrix:
        """`a`, so that its product with other inputs is what the linear term adds to covariances."""
        return a * self._per_column(self.linear, a.shape[1])

    def _per_column(self, weights: Matrix, n_columns: int) -> Matrix:
        """The weights of the groups, shared out among their columns."""
        result = np.zeros(n_columns)
        for weight, columns in zip(weights, self.groups, strict=True):
            result[columns] = weight / max(1, result[columns].size)
        return result


class Against:
    """Covariances of a kernel with inputs that stay the same, prepared once.

    Parts hold a few options: their terms are computed for rows that differ, and looked up for the others.

    Args:
        kernel: the kernel.
        inputs: shape (n, n_features).
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
        for f, part, rows, place in self._parts:
            covariance += self.kernel.near(f, a[:, part], rows)[:, place]
        return covariance

    def weighted(self, a: Matrix, weights: Matrix) -> Matrix:
        """The same summed with `weights` (n,), shape (len(a),); most of it without the matrix."""
        total: Matrix = self.kernel.smooth_term(a, self.inputs) @ weights
        total += self.kernel.linear_term(a) @ (self.inputs.T @ weights)
        for f, part, rows, place in self._parts:
            total += self.kernel.near(f, a[:, part], rows) @ np.bincount(place, weights, len(rows))
        return total


def fit_kernel(
    inputs: Matrix, targets: Matrix, groups: Sequence[Columns], families: Sequence[Family]
) -> Kernel:
    """The kernel of highest posterior density (Rasmussen and Williams 2006, §5.4.1).

    All matrices are symmetric; only their lower triangles are kept, as rows of numbers.

    Args:
        inputs: standardised, shape (n, n_features).
        targets: standardised, shape (n,).
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
    in_parts = [
        packed([mean_squared_distances(inputs[:, p], inputs[:, p]) for p in family.parts])
        for family in families
    ]
    spaces = [np.empty_like(apart) for apart in in_parts]
    shared = [PRIOR["smooth"] / k] * k + [PRIOR["linear"] / k] * k
    of_families = [family.smooth for family in families] + [family.signal for family in families]
    median = np.log([*shared, *of_families, PRIOR["signal"], PRIOR["noise"]])

    def loss(theta: Matrix) -> tuple[float, Matrix]:
        """Minus the log posterior of the logarithms of all numbers of the kernel, and its gradient."""
        kernel = _kernel(theta, groups, families)
        smooth = kernel.signal * np.exp(-0.5 * (kernel.smooth @ distances))
        terms, slopes = [], []  # of each family, and by the logarithm of its weight
        for apart, space, weight, signal in zip(
            in_parts, spaces, kernel.part_smooth, kernel.part_signal, strict=True
        ):
            near = np.exp(np.multiply(apart, -0.5 * weight, out=space), out=space)
            terms.append(signal / len(apart) * near.sum(axis=0))
            slopes.append(-0.5 * weight * signal / len(apart) * np.einsum("pi,pi->i", apart, near))
        covariance = np.zeros((n, n))
        covariance[lower] = sum(terms, smooth + kernel.linear @ products + kernel.noise * diagonal)
        factor = cholesky(covariance, lower=True, overwrite_a=True, check_finite=False)
        weights = cho_solve((factor, True), targets, check_finite=False)
        inverse, _ = dpotri(factor, lower=1)
        # the derivative by each element, with those above the diagonal added to their mirror images
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
        surprise = (theta - median) / PRIOR_SPREAD
        value = 0.5 * targets @ weights + np.log(np.diag(factor)).sum() + 0.5 * surprise @ surprise
        return float(value), -0.5 * gradient + surprise / PRIOR_SPREAD

    bounds = [(-12.0, 6.0)] * (2 * k) + [(-10.0, 6.0)] * (2 * f + 1) + [tuple(np.log(NOISE_BOUNDS))]
    found = minimize(
        loss, median, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 60, "ftol": 1e-6}
    )
    return _kernel(found.x, groups, families)


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


def _kernel(theta: Matrix, groups: Sequence[Columns], families: Sequence[Family]) -> Kernel:
    k, f = len(groups), len(families)
    smooth, linear, part_smooth, part_signal, rest = np.split(np.exp(theta), np.cumsum([k, k, f, f]))
    return Kernel(groups, families, smooth, linear, part_smooth, part_signal, *rest.tolist())
