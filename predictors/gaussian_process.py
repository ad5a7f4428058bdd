"""A Gaussian process whose kernel weighs groups of features instead of single ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import cho_solve, cholesky, solve_triangular
from scipy.optimize import minimize
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils.validation import check_is_fitted, validate_data

Matrix = NDArray[np.float64]

PRIOR = {"smooth": 0.3, "linear": 0.6, "signal": 1.0, "noise": 0.05}
"""Medians of the log-normal priors, for standardised features and targets; the first two are shared by all
groups."""
PRIOR_SPREAD = 1.5
"""Standard deviation of the logarithm under the priors."""
NOISE_BOUNDS = (1e-3, 1.0)
"""Variance of the noise / variance of the targets."""


class GaussianProcess(RegressorMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn is untyped
    """Gaussian process regression, kernel and noise fitted by maximum a posteriori.

    With the features standardised, and x_g the columns of group g divided by the root of their number:

        k(x, z) = signal · exp(-½ Σ_g smooth_g |x_g - z_g|²) + Σ_g linear_g x_g·z_g + noise · [x is z]

    Two numbers a group can be learned from 50 samples where a length scale for every column cannot; the
    priors keep them sensible. Source of the method: Rasmussen and Williams, Gaussian Processes for Machine
    Learning (2006), §2.2, §5.1 and §5.4.1.

    Args:
        groups: the columns of each group; None: all columns are one group.
        max_kernel_samples: the kernel is fitted on at most this many samples, evenly spread over those given
            (its cost grows with their cube); the prediction uses all of them.
    """

    def __init__(self, groups: Sequence[slice] | None = None, max_kernel_samples: int = 400) -> None:
        self.groups = groups
        self.max_kernel_samples = max_kernel_samples

    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:  # noqa: N803  scikit-learn's names
        """Fit to `X` (n, n_features) and `y` (n,).

        Raises:
            ValueError: the shapes do not fit or a number is not finite.
        """
        raw, values = validate_data(self, X, y, dtype=np.float64, y_numeric=True, ensure_min_samples=2)
        self._slices = [slice(0, raw.shape[1])] if self.groups is None else list(self.groups)
        self._x_mean, self._x_scale = raw.mean(axis=0), _scale(raw)
        self._y_mean, self._y_scale = values.mean(), _scale(values)
        inputs, targets = self._standardised(raw), (values - self._y_mean) / self._y_scale
        some = np.linspace(0, len(raw) - 1, min(len(raw), self.max_kernel_samples)).astype(int)
        self.kernel_ = _fit_kernel(inputs[some], targets[some], self._slices)
        self._inputs = inputs
        covariance = self.kernel_(inputs, inputs, self._slices)
        covariance[np.diag_indices_from(covariance)] += self.kernel_.noise
        self._factor = cholesky(covariance, lower=True)
        self._weights = cho_solve((self._factor, True), targets)
        return self

    def predict(
        self,
        X: ArrayLike,  # noqa: N803
        return_std: bool = False,
    ) -> Matrix | tuple[Matrix, Matrix]:
        """The mean for each row, shape (n,), and with `return_std` also the standard deviation without noise.

        Raises:
            ValueError: the number of columns is another one than in `fit`.
        """
        check_is_fitted(self)
        inputs = self._standardised(validate_data(self, X, dtype=np.float64, reset=False))
        covariance = self.kernel_(inputs, self._inputs, self._slices)
        mean: Matrix = covariance @ self._weights * self._y_scale + self._y_mean
        if not return_std:
            return mean
        explained = (solve_triangular(self._factor, covariance.T, lower=True) ** 2).sum(axis=0)
        variance = np.maximum(self.kernel_.variance(inputs, self._slices) - explained, 0.0)
        return mean, np.sqrt(variance) * self._y_scale

    def _standardised(self, raw: Matrix) -> Matrix:
        result: Matrix = (raw - self._x_mean) / self._x_scale
        for columns in self._slices:
            result[:, columns] /= np.sqrt(max(1, result[:, columns].shape[1]))
        return result


class Kernel(NamedTuple):
    """The kernel of `GaussianProcess` with its fitted numbers."""

    smooth: Matrix
    """Weight of each group in the smooth part, shape (n_groups,)."""
    linear: Matrix
    """Weight of each group in the linear part, shape (n_groups,)."""
    signal: float
    """Variance of the smooth part."""
    noise: float
    """Variance of the noise."""

    def __call__(self, a: Matrix, b: Matrix, groups: Sequence[slice]) -> Matrix:
        """Covariances without noise, shape (len(a), len(b))."""
        smooth, linear = (_per_column(np.sqrt(w), groups, a.shape[1]) for w in (self.smooth, self.linear))
        distances = _squared_distances(a * smooth, b * smooth)
        covariance: Matrix = self.signal * np.exp(-0.5 * distances) + (a * linear**2) @ b.T
        return covariance

    def variance(self, a: Matrix, groups: Sequence[slice]) -> Matrix:
        """The diagonal of the covariances of `a` with itself, shape (len(a),)."""
        diagonal: Matrix = self.signal + a**2 @ _per_column(self.linear, groups, a.shape[1])
        return diagonal


def _fit_kernel(inputs: Matrix, targets: Matrix, groups: Sequence[slice]) -> Kernel:
    """The kernel of highest posterior density for standardised `inputs` (n, d) and `targets` (n,)."""
    distances = np.stack([_squared_distances(inputs[:, g], inputs[:, g]) for g in groups])
    products = np.stack([inputs[:, g] @ inputs[:, g].T for g in groups])
    n, k = len(inputs), len(groups)
    median = np.log([PRIOR["smooth"] / k] * k + [PRIOR["linear"] / k] * k + [PRIOR["signal"], PRIOR["noise"]])

    def loss(theta: Matrix) -> tuple[float, Matrix]:
        """Minus the log posterior of the logarithms of all numbers of the kernel, and its gradient."""
        kernel = _kernel(theta, k)
        shape = np.exp(-0.5 * np.tensordot(kernel.smooth, distances, 1))
        smooth = kernel.signal * shape
        covariance = smooth + np.tensordot(kernel.linear, products, 1) + kernel.noise * np.eye(n)
        factor = cholesky(covariance, lower=True)
        weights = cho_solve((factor, True), targets)
        slope = np.outer(weights, weights) - cho_solve((factor, True), np.eye(n))
        gradient = np.concatenate(
            [
                -0.5 * kernel.smooth * np.tensordot(distances, slope * smooth, 2),
                kernel.linear * np.tensordot(products, slope, 2),
                [np.vdot(slope, smooth), kernel.noise * np.trace(slope)],
            ]
        )
        surprise = (theta - median) / PRIOR_SPREAD
        value = 0.5 * targets @ weights + np.log(np.diag(factor)).sum() + 0.5 * surprise @ surprise
        return float(value), -0.5 * gradient + surprise / PRIOR_SPREAD

    bounds = [(-12.0, 6.0)] * (2 * k) + [(-6.0, 6.0), tuple(np.log(NOISE_BOUNDS))]
    found = minimize(loss, median, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 60})
    return _kernel(found.x, k)


def _kernel(theta: Matrix, k: int) -> Kernel:
    numbers = np.exp(theta)
    return Kernel(numbers[:k], numbers[k : 2 * k], float(numbers[-2]), float(numbers[-1]))


def _squared_distances(a: Matrix, b: Matrix) -> Matrix:
    squares: Matrix = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1) - 2 * a @ b.T
    return np.maximum(squares, 0.0)


def _per_column(weights: Matrix, groups: Sequence[slice], n_columns: int) -> Matrix:
    result = np.zeros(n_columns)
    for weight, columns in zip(weights, groups, strict=True):
        result[columns] = weight
    return result


def _scale(values: Matrix) -> Matrix:
    """Standard deviation along the first axis, 1 where it is constant."""
    deviation: Matrix = values.std(axis=0)
    return np.where(deviation > 1e-12 * np.abs(values).max(axis=0), deviation, 1.0)
