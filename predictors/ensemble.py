"""An ensemble of predictors with a standard deviation that is calibrated by cross-validation."""

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

    Non-negative weights are fitted to the predictions of the members in cross-validation (Breiman, Stacked
    Regressions, 1996) and scaled to a sum of 1. The variance at a point is a + b · (weighted variance of the
    members), where a and b ≥ 0 are fitted to the squared errors in cross-validation.

    A member with a method `tuned` is cross-validated with the hyperparameters of its fit to all samples. They
    are few numbers that hardly depend on the fold, and cross-validation takes a tenth of the time.

    Args:
        members: unfitted regressors; None: ridge regression and Gaussian process.
        folds: number of folds of the cross-validation.
    """

    def __init__(self, members: Sequence[Any] | None = None, folds: int = 5) -> None:
        self.members = members
        self.folds = folds

    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:  # noqa: N803
        """Fit to `X` (n, n_features) and `y` (n,).

        Raises:
            ValueError: the shapes do not match or a number is not finite.
        """
        inputs, targets = validate_data(self, X, y, dtype=np.float64, y_numeric=True, ensure_min_samples=2)
        members = [Ridge(), GaussianProcess()] if self.members is None else self.members
        folds = KFold(min(self.folds, len(targets)), shuffle=True, random_state=0)
        self.members_ = [clone(member).fit(inputs, targets) for member in members]
        unfitted = [m.tuned() if hasattr(m, "tuned") else clone(m) for m in self.members_]
        held_out = np.stack([cross_val_predict(m, inputs, targets, cv=folds) for m in unfitted], axis=1)
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
        """Predict the mean of each row, shape (n,).

        With `return_std`, the standard deviation of a new target is returned too, shape (n,).
        """
        check_is_fitted(self)
        inputs = validate_data(self, X, dtype=np.float64, reset=False)
        predictions = np.stack([member.predict(inputs) for member in self.members_], axis=1)
        mean: Matrix = predictions @ self.weights_
        if not return_std:
            return mean
        return mean, np.sqrt(self.variance_[0] + self.variance_[1] * self._disagreement(predictions))

    def _disagreement(self, predictions: Matrix) -> Matrix:
        """Weighted variance of the predictions of the members (n, n_members), shape (n,)."""
        mean = predictions @ self.weights_
        variance: Matrix = (predictions - mean[:, None]) ** 2 @ self.weights_
        return variance
