"""Several predictors as one, with a standard deviation that is calibrated on samples it was not fitted to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import nnls
from sklearn.base import BaseEstimator, RegressorMixin, clone
from sklearn.model_selection import KFold, cross_val_predict
from sklearn.utils.validation import check_is_fitted, validate_data

from predictors.gaussian_process import GaussianProcess
from predictors.ridge import Ridge

Matrix = NDArray[np.float64]


class Ensemble(RegressorMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn is untyped
    """Stacked regression: a weighted mean of its members.

    Weights that are not negative are fitted to what the members predict in cross-validation (Breiman,
    Stacked Regressions, 1996), then scaled to a sum of 1. The variance at a point is a + b · (weighted
    variance of the members there), with a and b ≥ 0 fitted to the squared errors in cross-validation.

    A member with a method `tuned` is cross-validated with the hyperparameters of its fit to all samples: few
    numbers that a fold hardly moves, at a tenth of the cost.

    Args:
        members: unfitted regressors; None: ridge and Gaussian process.
        folds: of the cross-validation.
    """

    def __init__(self, members: Sequence[Any] | None = None, folds: int = 5) -> None:
        self.members = members
        self.folds = folds

    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:  # noqa: N803
        """Fit to `X` (n, n_features) and `y` (n,).

        Raises:
            ValueError: the shapes do not fit or a number is not finite.
        """
        inputs, targets = validate_data(self, X, y, dtype=np.float64, y_numeric=True, ensure_min_samples=2)
        members = [Ridge(), GaussianProcess()] if self.members is None else self.members
        folds = KFold(min(self.folds, len(targets)), shuffle=True, random_state=0)
        self.members_ = [clone(member).fit(inputs, targets) for member in members]
        alike = [m.tuned() if hasattr(m, "tuned") else clone(m) for m in self.members_]
        held_out = np.stack([cross_val_predict(m, inputs, targets, cv=folds) for m in alike], axis=1)
        mean = targets.mean()
        weights, _ = nnls(held_out - mean, targets - mean)
        self.weights_ = weights / weights.sum() if weights.any() else np.full(len(members), 1 / len(members))
        errors = (targets - held_out @ self.weights_) ** 2
        self.variance_, _ = nnls(
            np.stack([np.ones(len(errors)), self._disagreement(held_out)], axis=1), errors
        )
        return self

    def predict(
        self,
        X: ArrayLike,  # noqa: N803
        return_std: bool = False,
    ) -> Matrix | tuple[Matrix, Matrix]:
        """The mean for each row, shape (n,), and with `return_std` the standard deviation of a new target."""
        check_is_fitted(self)
        inputs = validate_data(self, X, dtype=np.float64, reset=False)
        guesses = np.stack([member.predict(inputs) for member in self.members_], axis=1)
        mean: Matrix = guesses @ self.weights_
        if not return_std:
            return mean
        return mean, np.sqrt(self.variance_[0] + self.variance_[1] * self._disagreement(guesses))

    def _disagreement(self, guesses: Matrix) -> Matrix:
        """Weighted variance of the members' `guesses` (n, n_members), shape (n,)."""
        mean = guesses @ self.weights_
        variance: Matrix = (guesses - mean[:, None]) ** 2 @ self.weights_
        return variance
