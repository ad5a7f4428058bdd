"""The predictors by name; all are scikit-learn estimators."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Protocol, Self, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, MetaEstimatorMixin, RegressorMixin, clone
from sklearn.ensemble import GradientBoostingRegressor, VotingRegressor
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import KFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.validation import check_is_fitted, validate_data

from predictors.features import Features
from predictors.gaussian_process import GaussianProcess

Matrix = NDArray[np.float64]


@runtime_checkable
class Regressor(Protocol):
    """A scikit-learn regressor, which `sklearn.base.BaseEstimator` makes of a class with `fit` and `predict`.

    `predict(X, return_std=True)` is used where the estimator has it.
    """

    def fit(self, X: ArrayLike, y: ArrayLike) -> Any:  # noqa: N803
        """Fit to `X` (n, n_features) and `y` (n,)."""

    def predict(self, X: ArrayLike) -> Any:  # noqa: N803
        """The prediction for each row, shape (n,)."""

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The arguments of the constructor, from which an unfitted copy is made."""


PredictorFactory = Callable[[Features, int], Regressor]
"""Makes an unfitted predictor for these features, with this seed for whatever is random in it.

A user's own predictor (`module:object`) is such a function or class.
"""


class ResidualStd(MetaEstimatorMixin, RegressorMixin, BaseEstimator):  # type: ignore[misc]  # untyped
    """Gives a regressor a standard deviation: that of its residuals in cross-validation, one for all inputs.

    Args:
        estimator: the regressor.
        folds: of the cross-validation.
    """

    def __init__(self, estimator: Any, folds: int = 5) -> None:
        self.estimator = estimator
        self.folds = folds

    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:  # noqa: N803
        """Fit to `X` (n, n_features) and `y` (n,).

        Raises:
            ValueError: the shapes do not fit or a number is not finite.
        """
        inputs, targets = validate_data(self, X, y, dtype=np.float64, y_numeric=True, ensure_min_samples=2)
        folds = KFold(min(self.folds, len(targets)), shuffle=True, random_state=0)
        residuals = targets - cross_val_predict(clone(self.estimator), inputs, targets, cv=folds)
        self.std_ = float(np.sqrt(np.mean(residuals**2)))
        self.estimator_ = clone(self.estimator).fit(inputs, targets)
        return self

    def predict(
        self,
        X: ArrayLike,  # noqa: N803
        return_std: bool = False,
    ) -> Matrix | tuple[Matrix, Matrix]:
        """The prediction for each row, shape (n,), and with `return_std` its standard deviation."""
        check_is_fitted(self)
        mean: Matrix = self.estimator_.predict(validate_data(self, X, dtype=np.float64, reset=False))
        return (mean, np.full(len(mean), self.std_)) if return_std else mean


def with_std(estimator: Regressor) -> Regressor:
    """`estimator` itself if it predicts a standard deviation, otherwise wrapped in `ResidualStd`."""
    able = "return_std" in inspect.signature(estimator.predict).parameters
    return estimator if able else ResidualStd(estimator)


def ridge(features: Features, seed: int) -> Regressor:
    """Linear, with the penalty chosen by leave-one-out; best where few subnets are known."""
    model: Regressor = make_pipeline(StandardScaler(), RidgeCV(np.logspace(-1, 4, 16)))
    return model


def gaussian_process(features: Features, seed: int) -> Regressor:
    """See `GaussianProcess`; its groups are those of the features."""
    return GaussianProcess(groups=tuple(features.groups.values()))


def gradient_boosting(features: Features, seed: int) -> Regressor:
    """Boosted trees; each tree sees a part of the samples and each split a part of the columns."""
    model: Regressor = GradientBoostingRegressor(
        n_estimators=300,
        learning_rate=0.06,
        max_depth=2,
        subsample=0.6,
        max_features=0.3,
        random_state=seed,
    )
    return model


def ensemble(features: Features, seed: int) -> Regressor:
    """The mean of the others; best where the metric is noisy and no single one is right."""
    members = [ridge, gaussian_process, gradient_boosting]
    model: Regressor = VotingRegressor([(make.__name__, make(features, seed)) for make in members])
    return model


PREDICTORS: dict[str, PredictorFactory] = {
    "gaussian_process": gaussian_process,
    "ridge": ridge,
    "gradient_boosting": gradient_boosting,
    "ensemble": ensemble,
}
