"""Table of predictors by name; all are scikit-learn estimators."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Protocol, Self, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, MetaEstimatorMixin, RegressorMixin, clone
from sklearn.compose import TransformedTargetRegressor
from sklearn.ensemble import GradientBoostingRegressor
from sklearn.model_selection import KFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVR
from sklearn.utils.validation import check_is_fitted, validate_data

from predictors.ensemble import Ensemble
from predictors.features import Features
from predictors.gaussian_process import GaussianProcess
from predictors.kernel import Family
from predictors.mlp import MLP
from predictors.ridge import Ridge

Matrix = NDArray[np.float64]


@runtime_checkable
class Regressor(Protocol):
    """The interface of a scikit-learn regressor: a `sklearn.base.BaseEstimator` with `fit` and `predict`.

    If `predict` has the parameter `return_std`, it is used.
    """

    def fit(self, X: ArrayLike, y: ArrayLike) -> Any:  # noqa: N803
        """Fit to `X` (n, n_features) and `y` (n,)."""

    def predict(self, X: ArrayLike) -> Any:  # noqa: N803
        """Predict the target of each row, shape (n,)."""

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The arguments of the constructor, from which an unfitted copy is created."""


PredictorFactory = Callable[[Features, int], Regressor]
"""Creates an unfitted predictor: (features, seed) -> predictor.

A user's own predictor (`module:object`) is such a function or class.
"""


class ResidualStd(MetaEstimatorMixin, RegressorMixin, BaseEstimator):  # type: ignore[misc]  # untyped
    """Adds a standard deviation to a regressor: the one of its cross-validated residuals, for all inputs.

    Args:
        estimator: the regressor.
        folds: number of folds of the cross-validation.
    """

    def __init__(self, estimator: Any, folds: int = 5) -> None:
        self.estimator = estimator
        self.folds = folds

    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:  # noqa: N803
        """Fit to `X` (n, n_features) and `y` (n,).

        Raises:
            ValueError: the shapes do not match or a number is not finite.
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
        """Predict the target of each row, shape (n,), and with `return_std` its standard deviation."""
        check_is_fitted(self)
        inputs = validate_data(self, X, dtype=[np.float64, np.float32], reset=False)
        mean: Matrix = self.estimator_.predict(inputs)
        return (mean, np.full(len(mean), self.std_)) if return_std else mean


def with_std(estimator: Regressor) -> Regressor:
    """`estimator` if it predicts a standard deviation, otherwise `estimator` wrapped in `ResidualStd`."""
    has_std = "return_std" in inspect.signature(estimator.predict).parameters
    return estimator if has_std else ResidualStd(estimator)


def ridge(features: Features, seed: int) -> Regressor:
    """Ridge regression, see `Ridge`; by far the fastest predictor."""
    return Ridge()


def gaussian_process(features: Features, seed: int) -> Regressor:
    """Gaussian process with the groups and families of the features, see `GaussianProcess`."""
    families = [Family(features.parts)]
    if features.neighbours:
        families.append(Family(features.neighbours, smooth=4.0, signal=0.03))
    return GaussianProcess(tuple(features.groups.values()), families)


def support_vectors(features: Features, seed: int) -> Regressor:
    """Support vector regression with an RBF kernel; errors below 2 % of a standard deviation are ignored."""
    return _standardised(SVR(C=10.0, epsilon=0.02, gamma="scale"))


def gradient_boosting(features: Features, seed: int) -> Regressor:
    """Gradient-boosted trees; each split considers a random fifth of the columns."""
    trees = GradientBoostingRegressor(
        n_estimators=100, learning_rate=0.15, max_depth=2, max_features=0.2, random_state=seed
    )
    return _standardised(trees)


def mlp(features: Features, seed: int) -> Regressor:
    """Small neural network, see `MLP`; needs about a hundred subnets."""
    return MLP(random_state=seed)


def ensemble(features: Features, seed: int) -> Regressor:
    """Gaussian process and gradient-boosted trees, see `Ensemble`; the best choice for noisy metrics."""
    return Ensemble([gaussian_process(features, seed), gradient_boosting(features, seed)])


def _standardised(estimator: Any) -> Regressor:
    """`estimator` with standardization of features and targets."""
    model: Regressor = TransformedTargetRegressor(
        make_pipeline(StandardScaler(), estimator), transformer=StandardScaler()
    )
    return model


PREDICTORS: dict[str, PredictorFactory] = {
    factory.__name__: factory
    for factory in (gaussian_process, ridge, gradient_boosting, ensemble, support_vectors, mlp)
}
CANDIDATES: dict[str, PredictorFactory] = {
    factory.__name__: factory for factory in (gaussian_process, ridge, gradient_boosting, ensemble)
}
"""Default candidates of cross-validation. The other predictors were not the best on any data so far."""
