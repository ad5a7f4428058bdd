"""A Gaussian process whose kernel has weights of groups of features."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import cho_solve, cholesky, solve_triangular
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from predictors.kernel import Columns, Covariance, Family, Kernel, fit_kernel
from predictors.scaling import scale_of

Matrix = NDArray[np.float64]


class GaussianProcess(RegressorMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn is untyped
    """Gaussian process regression with maximum a posteriori estimates of kernel and noise.

    With the standardized features x, and |x_g - z_g|² and x_g·z_g averaged over the columns of group g:

        k(x, z) = signal · exp(-½ Σ_g smooth_g |x_g - z_g|²) + Σ_g linear_g x_g·z_g
                + Σ_f part_signal_f · mean_{p of f} exp(-½ part_smooth_f |x_p - z_p|²) + noise · [x is z]

    Two parameters per group can be estimated from 50 samples, in contrast to a length scale for every column;
    priors regularize them. The means over the parts p of a family f (the stages of a network, or its pairs of
    consecutive blocks) model the independent contribution of each part, as in additive Gaussian processes
    (Duvenaud et al. 2011). Source of the method: Rasmussen and Williams, Gaussian Processes for Machine
    Learning (2006), §2.2, §5.1 and §5.4.1.

    Args:
        groups: columns of each group; None: all columns are one group.
        families: families of parts with independent contributions; None: no families.
        max_kernel_samples: maximum number of samples to which the kernel is fitted, evenly spaced among all
            samples; the time grows with their cube. Predictions use all samples.
        kernel: kernel of an earlier fit; None: the kernel is fitted.
    """

    def __init__(
        self,
        groups: Sequence[Columns] | None = None,
        families: Sequence[Family] | None = None,
        max_kernel_samples: int = 400,
        kernel: Kernel | None = None,
    ) -> None:
        self.groups = groups
        self.families = families
        self.max_kernel_samples = max_kernel_samples
        self.kernel = kernel

    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:  # noqa: N803  scikit-learn's names
        """Fit to `X` (n, n_features) and `y` (n,).

        Raises:
            ValueError: the shapes do not match or a number is not finite.
        """
        raw, values = validate_data(self, X, y, dtype=np.float64, y_numeric=True, ensure_min_samples=2)
        self._x_mean, self._x_scale = raw.mean(axis=0), scale_of(raw)
        self._y_mean, self._y_scale = values.mean(), scale_of(values)
        inputs, targets = self._standardized(raw), (values - self._y_mean) / self._y_scale
        rows = np.linspace(0, len(raw) - 1, min(len(raw), self.max_kernel_samples)).astype(int)
        groups = [slice(0, raw.shape[1])] if self.groups is None else self.groups
        self.kernel_ = self.kernel or fit_kernel(inputs[rows], targets[rows], groups, self.families or [])
        self._covariance = Covariance(self.kernel_, inputs)
        covariance = self._covariance(inputs)
        covariance[np.diag_indices_from(covariance)] += self.kernel_.noise
        self._factor = cholesky(covariance, lower=True)
        self._weights = cho_solve((self._factor, True), targets)
        return self

    def predict(
        self,
        X: ArrayLike,  # noqa: N803
        return_std: bool = False,
    ) -> Matrix | tuple[Matrix, Matrix]:
        """Predict the mean of each row, shape (n,).

        With `return_std`, the standard deviation without noise is returned too, shape (n,).

        Raises:
            ValueError: the number of columns differs from that in `fit`.
        """
        check_is_fitted(self)
        inputs = self._standardized(validate_data(self, X, dtype=np.float64, reset=False))
        mean: Matrix = self._covariance.weighted(inputs, self._weights) * self._y_scale + self._y_mean
        if not return_std:
            return mean
        covariance = self._covariance(inputs)
        explained = (solve_triangular(self._factor, covariance.T, lower=True) ** 2).sum(axis=0)
        variance = np.maximum(self.kernel_.variance(inputs) - explained, 0.0)
        return mean, np.sqrt(variance) * self._y_scale

    def tuned(self) -> GaussianProcess:
        """An unfitted copy with the fitted kernel, for cross-validation in a tenth of the time."""
        return GaussianProcess(self.groups, self.families, self.max_kernel_samples, self.kernel_)

    def _standardized(self, raw: Matrix) -> Matrix:
        result: Matrix = (raw - self._x_mean) / self._x_scale
        return result
